"""Taking a port: never somebody else's, not even where the kernel would let us share it."""

from __future__ import annotations

import socket

import pytest

from corelane.core.errors import ConfigError, PortInUseError
from corelane.web.listen import Address, reserve


def test_a_free_port_is_chosen_and_named() -> None:
    """Port 0 takes a free port, and the address says which."""
    with reserve("127.0.0.1", 0) as address:
        assert address.port > 0
        assert address.url() == f"http://127.0.0.1:{address.port}"


def test_an_ipv6_address_is_bracketed() -> None:
    """The URL of an IPv6 address can be used as it is."""
    assert Address("::1", 80).url("https") == "https://[::1]:80"


@pytest.mark.parametrize("option", [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_port_in_use_is_refused(option: int | None) -> None:
    """A port that somebody listens on is refused, even if that socket offers to share it."""
    with socket.socket() as other:
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortInUseError, match=r"port must be free, got \d+"), reserve(*other.getsockname()):
            pass


def test_a_reserved_port_is_refused_to_a_second_server() -> None:
    """Two servers of the same user cannot take one port, although neither listens yet."""
    with (
        reserve("127.0.0.1", 0) as address,
        pytest.raises(PortInUseError),
        reserve("127.0.0.1", address.port),
    ):
        pass


def test_listeners_that_share_may_join_a_reserved_port_and_get_every_connection() -> None:
    """Workers listen on the reserved port side by side, and no connection ends in the reservation itself."""
    with reserve("127.0.0.1", 0) as address, socket.socket() as one, socket.socket() as two:
        for worker in (one, two):
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind((address.ip, address.port))
            worker.listen()
            worker.settimeout(0.0)
        num_accepted = 0
        for _ in range(40):
            with socket.create_connection((address.ip, address.port), timeout=5):
                for worker in (one, two):
                    try:
                        worker.accept()[0].close()
                        num_accepted += 1
                    except BlockingIOError:
                        continue
        assert num_accepted == 40


def test_a_port_can_be_taken_again_at_once() -> None:
    """A server can be restarted on its port although connections of its predecessor linger."""
    with reserve("127.0.0.1", 0) as address, socket.socket() as listener:
        for option in (socket.SO_REUSEPORT, socket.SO_REUSEADDR):  # as Granian opens its listeners
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind((address.ip, address.port))
        listener.listen()
        with socket.create_connection((address.ip, address.port)):
            listener.accept()[0].close()  # our side closes first and lingers
    with reserve("127.0.0.1", address.port) as again:
        assert again == address


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    """An unknown name and an address of another machine are errors of the configuration."""
    with pytest.raises(ConfigError, match="host must be an address of this machine"), reserve(host, 0):
        pass
