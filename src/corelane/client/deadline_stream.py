"""Sockets that know when a call must be over, for the client without asyncio.

httpcore bounds each read and each write, so that a server which sends a byte now and then holds a call for ever. Here
each of them gets what is left of the whole call. A call is made in one thread, which is how a socket knows whose it is.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import httpcore

MOST_S = 1e6  # eleven days, which any timer can count
_DEADLINE: ContextVar[float] = ContextVar("deadline")


@contextmanager
def until(deadline_s: float) -> Iterator[None]:
    """Have all that this thread reads and writes in the context end at `deadline_s` (monotonic)."""
    token = _DEADLINE.set(deadline_s)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def _left_s(error: type[httpcore.TimeoutException]) -> float:
    """Seconds that are left, of a long time a part that a timer can count. Raises `error` when there are none."""
    left_s = _DEADLINE.get() - time.monotonic()
    if left_s <= 0:
        raise error("the deadline passed")
    return min(left_s, MOST_S)


class DeadlineBackend(httpcore.NetworkBackend):
    """Makes connections whose every step ends with the call."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection. `timeout` is that of a step, and is left aside."""
        del timeout
        error: httpcore.ConnectError | None = None
        for address in _addresses(host, port):  # one by one: together each would get all the time
            left_s = _left_s(httpcore.ConnectTimeout)
            try:
                return _DeadlineStream(self._inner.connect_tcp(address, port, left_s, local_address, socket_options))
            except httpcore.ConnectError as refusal:
                error = refusal
        raise error or httpcore.ConnectError(f"{host} has no address")


def _addresses(host: str, port: int) -> list[str]:
    """Of `host`, from a thread that nobody waits for beyond the deadline: the C library asks name servers for as long
    as it likes. Raises `ConnectError`, and `ConnectTimeout` where they do not answer in time.
    """
    answers: SimpleQueue[list[str] | OSError | UnicodeError] = SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # the latter where a part of the name is too long for one
            answers.put(error)
        else:
            answers.put([str(one[4][0]) for one in found])

    Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=_left_s(httpcore.ConnectTimeout))
    except Empty as error:
        raise httpcore.ConnectTimeout(f"no name server told the address of {host} in time") from error
    if not isinstance(answer, list):
        raise httpcore.ConnectError(str(answer)) from answer
    return answer


class _DeadlineStream(httpcore.NetworkStream):
    """A stream of httpcore's whose steps end with the call."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See `NetworkStream.read`."""
        del timeout
        return self._inner.read(max_bytes, _left_s(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See `NetworkStream.write`. A reader who takes a little now and then gets no more time for it."""
        del timeout
        sending: socket.socket = self._inner.get_extra_info("socket")
        rest = memoryview(buffer)
        while rest:
            sending.settimeout(_left_s(httpcore.WriteTimeout))
            try:
                rest = rest[sending.send(rest) :]
            except TimeoutError as error:
                raise httpcore.WriteTimeout("the deadline passed") from error
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """See `NetworkStream.close`."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """See `NetworkStream.start_tls`."""
        del timeout
        left_s = _left_s(httpcore.ConnectTimeout)
        return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, left_s))

    def get_extra_info(self, info: str) -> Any:
        """See `NetworkStream.get_extra_info`."""
        return self._inner.get_extra_info(info)
