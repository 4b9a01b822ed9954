"""The time a download may take: a deadline and a least rate, held at the socket, where nothing can pass them by.

Bytes count as they arrive, whatever they are: body, head, or a chunk's frame. A server that trickles a head that never
ends is stopped like one that trickles a body.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpcore

from corelane.core.clock import Clock
from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig

WINDOW_S = 10.0  # over which the rate is measured


class Pace:
    """Owns the deadline and the rate of one source's requests and nothing else. `shown` names it in messages."""

    def __init__(self, config: HTTPConfig, clock: Clock, shown: str) -> None:
        self._total_s = config.total_timeout_s
        self._min_bytes_per_s = config.min_bytes_per_s
        self._clock = clock
        self._shown = shown
        self._deadline_s = clock.monotonic() + config.total_timeout_s
        self._began_s: float | None = None
        self._num_bytes = 0

    def left_s(self) -> float:
        """Seconds until the deadline. Raises `DataError` when it has passed."""
        left_s = self._deadline_s - self._clock.monotonic()
        if left_s <= 0:
            raise DataError(
                f"{self._shown} must be read within {self._total_s:g} s, got no end; raise data.source.total_timeout_s"
            )
        return left_s

    def within(self, timeout_s: float | None) -> float:
        """`timeout_s`, or what is left when that is less."""
        left_s = self.left_s()
        return left_s if timeout_s is None else min(timeout_s, left_s)

    def begin(self) -> None:
        """A request goes out: the rate is measured from the first byte of its answer."""
        self._began_s = None

    def count(self, num_bytes: int) -> None:
        """Bytes came. Raises `SourceReadError` when too few did over the last window."""
        now_s = self._clock.monotonic()
        if self._began_s is None:
            self._began_s, self._num_bytes = now_s, 0
        self._num_bytes += num_bytes
        passed_s = now_s - self._began_s
        if passed_s < WINDOW_S:
            return
        if self._num_bytes < self._min_bytes_per_s * passed_s:
            raise SourceReadError(
                f"{self._shown} must send at least {self._min_bytes_per_s} bytes a second, got "
                f"{self._num_bytes / passed_s:.0f}; it is tried again"
            )
        self._began_s, self._num_bytes = now_s, 0


class PacedStream(httpcore.NetworkStream):
    """A connection every read and write of which keeps to a `Pace`."""

    def __init__(self, stream: httpcore.NetworkStream, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """At most `max_bytes` bytes; none at the end."""
        data = self._stream.read(max_bytes, self._pace.within(timeout))
        self._pace.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        self._pace.begin()
        self._stream.write(buffer, self._pace.within(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection, encrypted; the handshake as a whole keeps to `timeout`."""
        inner = self._stream.start_tls(ssl_context, server_hostname, self._pace.within(timeout))
        return PacedStream(inner, self._pace)

    def get_extra_info(self, info: str) -> Any:
        """What the connection below says."""
        return self._stream.get_extra_info(info)
