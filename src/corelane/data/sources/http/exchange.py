"""One GET with its redirects, under every limit that the configuration sets. Nothing is retried here.

Every hop is checked anew: scheme, address, no step back from https to http. The configured headers go to the URL's own
origin and nowhere else. There are no cookies, no proxies from the environment, and no decoding behind our back.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpcore

from corelane.core.clock import Clock
from corelane.core.errors import ConfigError, DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.source import Tell
from corelane.data.sources.http.address import CheckedBackend, Resolve

MAX_REDIRECTS = 5
_RATE_WINDOW_S = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (
    httpcore.ConnectError,
    httpcore.ReadError,
    httpcore.WriteError,
    httpcore.TimeoutException,
    httpcore.RemoteProtocolError,
)


@dataclass(frozen=True)
class Reply:
    """An answer's status, its headers by lower-case name, and its body in pieces."""

    status: int
    headers: Mapping[str, str]
    body: Iterator[bytes]

    @property
    def length(self) -> int | None:
        """How many bytes the body says it has."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdigit() else None


class Exchange:
    """Sends GETs for one source. `deadline_s` on the clock ends everything. Close it to close its connections."""

    def __init__(self, config: HTTPConfig, *, clock: Clock, tell: Tell, lookup: Resolve) -> None:
        self._config = config
        self._clock = clock
        self._origin = _origin(config.url)
        self.deadline_s = clock.monotonic() + config.total_timeout_s
        self._check_url(config.url, None)
        if config.insecure_tls:
            tell("tls_not_verified", {"source": shown(config.url)})
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context(config),
            max_connections=1,
            retries=0,
            network_backend=CheckedBackend(config.allow_private, lookup),
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str]) -> Iterator[Reply]:
        """The answer to a GET of `url`, redirects followed.

        Raises `SourceReadError` for what may pass (a broken or slow connection), `DataError` for what will not (a
        refused address, a certificate, a redirect that leads nowhere).
        """
        with self._errors(url), self._following(url, headers) as reply:
            yield reply

    @contextmanager
    def _following(self, url: str, headers: Mapping[str, str]) -> Iterator[Reply]:
        seen: set[str] = set()
        while True:
            seen.add(url)
            with self._send(url, headers) as reply:
                if reply.status not in _REDIRECTS or "location" not in reply.headers:
                    yield reply
                    return
                target = urljoin(url, reply.headers["location"])
            self._check_url(target, url)
            if target in seen or len(seen) > MAX_REDIRECTS:
                raise DataError(
                    f"{shown(self._config.url)} must not redirect in a circle or over {MAX_REDIRECTS} times"
                )
            url = target

    @contextmanager
    def _send(self, url: str, headers: Mapping[str, str]) -> Iterator[Reply]:
        config = self._config
        left_s = self.left_s()
        timeout = {
            "connect": min(config.connect_timeout_s, left_s),
            "read": min(config.idle_timeout_s, left_s),
            "write": min(config.idle_timeout_s, left_s),
            "pool": left_s,
        }
        own = config.headers if _origin(url) == self._origin else {}
        sent = {"Accept-Encoding": "identity", "User-Agent": "corelane", **own, **headers}
        with self._pool.stream("GET", url, headers=list(sent.items()), extensions={"timeout": timeout}) as response:
            received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            yield Reply(response.status, received, self._paced(response.iter_stream()))

    def _paced(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces, as long as they come fast enough and time is left."""
        began_s, num_bytes = self._clock.monotonic(), 0
        for piece in pieces:
            yield piece
            num_bytes += len(piece)
            passed_s = self._clock.monotonic() - began_s
            self.left_s()
            if passed_s >= _RATE_WINDOW_S:
                if num_bytes < self._config.min_bytes_per_s * passed_s:
                    raise SourceReadError(
                        f"{shown(self._config.url)} must send at least {self._config.min_bytes_per_s} bytes a second, "
                        f"got {num_bytes / passed_s:.0f}; it is tried again"
                    )
                began_s, num_bytes = self._clock.monotonic(), 0

    def left_s(self) -> float:
        """Seconds until the deadline. Raises `DataError` when it has passed."""
        left_s = self.deadline_s - self._clock.monotonic()
        if left_s <= 0:
            raise DataError(
                f"{shown(self._config.url)} must be read within {self._config.total_timeout_s:g} s, got no end; "
                "raise data.source.total_timeout_s"
            )
        return left_s

    def _check_url(self, url: str, before: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise DataError(f"a URL must begin with https:// and name a host, got {shown(url)!r}; correct it")
        if parts.scheme == "http" and not self._config.allow_http:
            raise ConfigError(
                f"{shown(url)} must be https, got plain http; set data.source.allow_http if that is acceptable"
            )
        if before is not None and parts.scheme == "http" and before.startswith("https"):
            raise DataError(
                f"{shown(before)} must not lead back to plain http, got {shown(url)}; use its target itself"
            )

    @contextmanager
    def _errors(self, url: str) -> Iterator[None]:
        try:
            yield
        except _TRANSIENT as error:
            certificate = _certificate_error(error)
            if certificate is not None:
                raise DataError(
                    f"the certificate of {shown(url)} must be valid, got: {certificate}; mend it, or name its "
                    "authority in data.source.ca_file"
                ) from error
            raise SourceReadError(
                f"{shown(url)} must answer to the end, got {type(error).__name__}; it is tried again", detail=str(error)
            ) from error
        except httpcore.LocalProtocolError as error:
            raise ConfigError(f"data.source.headers must be valid HTTP headers, got: {error}; correct them") from error


def shown(url: str) -> str:
    """`url` as it may be shown: without user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _ssl_context(config: HTTPConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if config.ca_file is not None:
            context.load_verify_locations(config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"data.source.ca_file must be a file of PEM certificates, got {config.ca_file!r}: {error}; check it"
        ) from error
    if config.insecure_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _certificate_error(error: BaseException) -> str | None:
    cause: Any = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None
