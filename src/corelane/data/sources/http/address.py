"""Where a request may go: names are resolved here, every address is looked at, and the connection is made to that one.

A URL from a configuration, and above all one from a redirect, must not reach this machine, its network or a cloud's
metadata service. Checking a name and connecting to it again would leave time to change its address in between, so the
address that was checked is the one that is connected to.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, wait
from typing import Any, TypeAlias

import httpcore

from corelane.core.errors import DataError
from corelane.data.sources.http.pace import Pace, PacedStream

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], list[str]]
"""(host, port) to its addresses as text, best first. Raises `OSError`."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that has been given out (RFC 4291); the rest is no host
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # RFC 6598: a carrier's own network
        "192.0.0.0/24",  # RFC 6890: protocols' own addresses
        "192.88.99.0/24",  # RFC 7526: 6to4 relays, given up
        "3fff::/20",  # RFC 9637: documentation
    )
)
"""What Python 3.11 takes for global and no host has."""


def resolve(host: str, port: int) -> list[str]:
    """The host's addresses as the system knows them; numbers in any spelling are addresses too."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def is_public(address: Address) -> bool:
    """Whether `address`, and any address inside it, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = [address.sixtofour, *(address.teredo or ())]
        if any(one is not None and not is_public(one) for one in inner):
            return False
        if address not in _UNICAST:
            return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that were checked. `allowed` are host names and addresses that need not be public."""

    def __init__(self, allowed: Collection[str], pace: Pace, lookup: Resolve = resolve) -> None:
        self._allowed = {_plain(name) for name in allowed}
        self._pace = pace
        self._lookup = lookup
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first of the host's addresses that answers.

        Raises `DataError` when one of them must not be reached or the time is over, `httpcore.ConnectError` when none
        answers.
        """
        try:
            addresses = [ipaddress.ip_address(text) for text in self._addresses_of(host, port, timeout)]
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        self._check(host, addresses)
        failure: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                left_s = self._pace.within(timeout)
                stream = self._backend.connect_tcp(str(address), port, left_s, local_address, socket_options)
                return PacedStream(stream, self._pace)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as refused:
                failure = refused
        raise failure

    def _addresses_of(self, host: str, port: int, timeout: float | None) -> list[str]:
        """What the lookup gives, which the system may take a minute for: on a thread, so that it can be left behind."""
        found: Future[list[str]] = Future()

        def look() -> None:
            try:
                found.set_result(self._lookup(host, port))
            except Exception as error:  # noqa: BLE001 - it is the caller's, who waits for it
                found.set_exception(error)

        threading.Thread(target=look, name="corelane-lookup", daemon=True).start()
        wait([found], self._pace.within(timeout))
        if not found.done():
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time")
        return found.result()

    def _check(self, host: str, addresses: list[Address]) -> None:
        if _plain(host) in self._allowed:
            return
        for address in addresses:
            if not is_public(address) and str(address) not in self._allowed:
                raise DataError(
                    f"{host} must be on the public internet, got the address {address}; name the host in "
                    "data.source.allow_private if it is meant"
                )


def _plain(name: str) -> str:
    """A host's name in lower case; an address in its one canonical form."""
    name = name.lower().strip("[]")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
