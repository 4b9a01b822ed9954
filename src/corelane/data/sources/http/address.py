"""Where a request may go: names are resolved here, every address is looked at, and the connection is made to that one.

A URL from a configuration, and above all one from a redirect, must not reach this machine, its network or a cloud's
metadata service. Checking a name and connecting to it again would leave time to change its address in between, so the
address that was checked is the one that is connected to.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

import httpcore

from corelane.core.errors import DataError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], list[str]]
"""(host, port) to its addresses as text, best first. Raises `OSError`."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_SHARED = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598: a carrier's own network


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
    elif address in _SHARED:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that were checked. `allowed` are host names and addresses that need not be public."""

    def __init__(self, allowed: Collection[str], lookup: Resolve = resolve) -> None:
        self._allowed = {name.lower() for name in allowed}
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

        Raises `DataError` when one of them must not be reached, `httpcore.ConnectError` when none answers.
        """
        try:
            addresses = [ipaddress.ip_address(text) for text in self._lookup(host, port)]
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from error
        self._check(host, addresses)
        failure: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as refused:
                failure = refused
        raise failure

    def _check(self, host: str, addresses: list[Address]) -> None:
        if host.lower().strip("[]") in self._allowed:
            return
        for address in addresses:
            if not is_public(address) and str(address) not in self._allowed:
                raise DataError(
                    f"{host} must be on the public internet, got the address {address}; name the host in "
                    "data.source.allow_private if it is meant"
                )
