"""Connecting to addresses that were looked at."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpcore
import pytest

from corelane.core.clock import SystemClock
from corelane.core.errors import DataError
from corelane.data.config import HTTPConfig
from corelane.data.sources.http.address import CheckedBackend, resolve
from corelane.data.sources.http.pace import Pace


@pytest.fixture
def port() -> Iterator[int]:
    """A port of loopback that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def backend(addresses: list[str], allowed: list[str]) -> CheckedBackend:
    pace = Pace(HTTPConfig(url="https://h/"), SystemClock(), "https://h/")
    return CheckedBackend(allowed, pace, lambda host, port: addresses)


def test_the_first_address_that_answers_is_taken(port: int) -> None:
    """Addresses that nobody listens on are passed by."""
    made = backend(["127.0.0.2", "127.0.0.1"], ["name.example"])
    stream = made.connect_tcp("name.example", port, 5.0)
    assert stream.get_extra_info("server_addr")[0] == "127.0.0.1"
    stream.close()
    with pytest.raises(httpcore.ConnectError):
        backend(["127.0.0.2"], ["name.example"]).connect_tcp("name.example", port, 5.0)


@pytest.mark.parametrize("allowed", ["NAME.example", "127.0.0.1"])
def test_a_host_is_allowed_by_its_name_or_its_address(port: int, allowed: str) -> None:
    """In any case of letters."""
    backend(["127.0.0.1"], [allowed]).connect_tcp("name.example", port, 5.0).close()


def test_allowing_one_host_allows_no_other(port: int) -> None:
    """Not even at the address of the first."""
    for allowed in (["name.example"], ["127.0.0.2"], []):
        with pytest.raises(DataError, match=r"other\.example must be on the public internet, got the address 127"):
            backend(["127.0.0.1"], allowed).connect_tcp("other.example", port, 5.0)


@pytest.mark.parametrize("addresses", [[], ["rubbish"]])
def test_a_name_without_an_address_is_no_connection(addresses: list[str]) -> None:
    """It may have one later."""
    with pytest.raises(httpcore.ConnectError):
        backend(addresses, []).connect_tcp("name.example", 443, 5.0)


def test_the_systems_lookup() -> None:
    """Names, and numbers in the spellings that the system knows."""
    assert "127.0.0.1" in resolve("localhost", 80)
    assert resolve("2130706433", 80) == ["127.0.0.1"]
    with pytest.raises(OSError, match=r"\[Errno"):
        resolve("no-such-name.invalid", 80)
