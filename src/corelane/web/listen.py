"""Taking an address before anybody listens on it.

Workers share a port through SO_REUSEPORT, and with that option Linux lets a second server join silently and steal half
of the requests. So the port is taken exclusively first, then held and opened for sharing as long as the server lives.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from corelane.core.errors import ConfigError, PortInUseError
from corelane.machine.worker_socket import short_address

BACKLOG = 1024  # connections the kernel keeps while they wait to be accepted; the usual limit is 4096


@dataclass(frozen=True, slots=True)
class Address:
    """A numeric IP address and a port."""

    ip: str
    port: int

    def url(self, scheme: str = "http") -> str:
        """`http://ip:port`."""
        return f"{scheme}://[{self.ip}]:{self.port}" if ":" in self.ip else f"{scheme}://{self.ip}:{self.port}"


@contextmanager
def reserve(host: str, port: int) -> Iterator[Address]:
    """Hold `host`:`port` (0 takes a free port) for listeners of this user that share it.

    Raises `PortInUseError` when anyone else has it, even somebody who would share, and `ConfigError` for a host that is
    not an address of this machine.
    """
    family, ip = resolve(host)
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        # Connections of a server that just ended linger for a minute; this option ignores those, but no live socket.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((ip, port))
            holder.listen(1)  # two sockets may be bound under that option; only one of them may listen
        except OSError as error:
            raise _refusal(error, ip, port) from error
        with socket.socket(family, socket.SOCK_STREAM) as keeper:
            address = Address(ip, holder.getsockname()[1])
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            keeper.bind((ip, address.port))
            holder.close()  # it would take a share of the connections; the keeper does not listen
            yield address


@contextmanager
def listening_socket(address: Address | Path) -> Iterator[socket.socket]:
    """A socket that listens at `address`, which is reserved, beside those of other workers; closed at the end.

    A path is that of a Unix socket, in a folder which only this user may enter; what a dead process left there is
    replaced. Raises `PortInUseError` and `ConfigError`.
    """
    if isinstance(address, Path):
        with _unix_socket(address) as listener:
            yield listener
        return
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((address.ip, address.port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise _refusal(error, address.ip, address.port) from error
        yield listener


@contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.setblocking(False)
        with short_address(path) as short:
            listener.bind(short)
        listener.listen(BACKLOG)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """Family and numeric address of `host`. Raises `ConfigError` when the name is unknown."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"host must be an address of this machine, got {host!r}: {error.strerror}") from error
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, str(address[0])


def _refusal(error: OSError, ip: str, port: int) -> ConfigError | PortInUseError:
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"port must be free, got {port}, which another program listens on at {ip}; stop it or choose another port"
        )
    if error.errno == errno.EACCES:
        return PortInUseError(f"port must be one this user may open, got {port}; choose one of at least 1024")
    return ConfigError(f"host must be an address of this machine, got {ip!r}: {error.strerror}")
