"""One GET with its redirects, under every limit that the configuration sets. Nothing is retried here.

Every hop is checked anew: scheme, address, no step back from https to http. The configured headers go to the URL's own
origin and nowhere else. There are no cookies, no proxies from the environment, and no decoding behind our back.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpcore

from corelane.core.clock import Clock
from corelane.core.errors import ConfigError, DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.source import Tell
from corelane.data.sources.http.address import CheckedBackend, Resolve
from corelane.data.sources.http.fields import own_fields, received_fields
from corelane.data.sources.http.pace import Pace
from corelane.data.sources.http.target import Target

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_ENCODINGS = ("identity", "gzip")
_FAILURES: Mapping[type[Exception], str] = {
    httpcore.ConnectTimeout: "no connection in time",
    httpcore.ConnectError: "no connection",
    httpcore.ReadTimeout: "silence",
    httpcore.ReadError: "a broken connection",
    httpcore.WriteTimeout: "a request that could not be sent in time",
    httpcore.WriteError: "a broken connection",
    httpcore.RemoteProtocolError: "an answer that is cut or no valid HTTP",
}
"""What may pass, and its words."""


@dataclass(frozen=True)
class Reply:
    """An answer's status, its headers by lower-case name, and its body in pieces. `shown` says where from."""

    shown: str
    status: int
    headers: Mapping[str, str]
    body: Iterator[bytes]

    @property
    def length(self) -> int | None:
        """How many bytes the body says it has."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None

    @property
    def has_end(self) -> bool:
        """Whether the end of the body can be told from a broken connection."""
        return self.length is not None or "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def encoding(self) -> str:
        """`identity` or `gzip`. Raises `DataError` for others, and for several."""
        encoding = self.headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in _ENCODINGS:
            raise DataError(
                f"{self.shown} must be sent as it is or gzipped once, got {encoding!r}; ask for another form"
            )
        return encoding


class Exchange:
    """Sends GETs for one source, all of them within one `pace`. Close it to close its connections."""

    def __init__(self, config: HTTPConfig, *, clock: Clock, tell: Tell, lookup: Resolve) -> None:
        self._config = config
        self.target = Target.parse(config.url)
        self.pace = Pace(config, clock, self.target.shown)
        self._check_scheme(self.target, None)
        self._own = own_fields(config.headers, config.url)
        if config.insecure_tls:
            tell("tls_not_verified", {"source": self.target.shown})
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context(config),
            max_connections=1,
            retries=0,
            network_backend=CheckedBackend(config.allow_private, self.pace, lookup),
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    @contextmanager
    def get(self, target: Target, headers: Mapping[str, str]) -> Iterator[Reply]:
        """The answer to a GET of `target`, redirects followed; `headers` (lower-case names) go along to every hop.

        Raises `SourceReadError` for what may pass (a broken or slow connection), `DataError` for what will not (a
        refused address, a certificate, a redirect that leads nowhere).
        """
        self._check_scheme(target, None)
        with self._errors(target), ExitStack() as last:
            yield self._follow(target, headers, last)

    def _follow(self, target: Target, headers: Mapping[str, str], last: ExitStack) -> Reply:
        """The reply that is no redirect; it closes with `last`."""
        seen: set[Target] = set()
        while True:
            seen.add(target)
            with ExitStack() as hop:
                reply = hop.enter_context(self._send(target, headers))
                if reply.status not in _REDIRECTS or "location" not in reply.headers:
                    last.push(hop.pop_all())
                    return reply
            led = target.join(reply.headers["location"])
            self._check_scheme(led, target)
            if led in seen or len(seen) > MAX_REDIRECTS:
                raise DataError(
                    f"{self.target.shown} must not redirect in a circle or over {MAX_REDIRECTS} times; "
                    "use its target itself"
                )
            target = led

    @contextmanager
    def _send(self, target: Target, headers: Mapping[str, str]) -> Iterator[Reply]:
        config = self._config
        timeout = {
            "connect": config.connect_timeout_s,
            "read": config.idle_timeout_s,
            "write": config.idle_timeout_s,
            "pool": self.pace.left_s(),
        }
        own = self._own if target.origin == self.target.origin else {}
        sent = {
            "host": target.authority,
            "accept-encoding": "identity",
            "accept": "*/*",
            "user-agent": "corelane",
            **own,
            **headers,
        }
        url = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        with self._pool.stream("GET", url, headers=list(sent.items()), extensions={"timeout": timeout}) as response:
            yield Reply(target.shown, response.status, received_fields(response.headers), response.iter_stream())

    def _check_scheme(self, target: Target, before: Target | None) -> None:
        if target.scheme == "https":
            return
        if before is not None and before.scheme == "https":
            raise DataError(
                f"{before.shown} must not lead back to plain http, got {target.shown}; use its target itself"
            )
        if not self._config.allow_http:
            raise ConfigError(
                f"{target.shown} must be https, got plain http; set data.source.allow_http if that is acceptable"
            )

    @contextmanager
    def _errors(self, target: Target) -> Iterator[None]:
        try:
            yield
        except tuple(_FAILURES) as error:
            certificate = _certificate_error(error)
            if certificate is not None:
                raise DataError(
                    f"the certificate of {target.shown} must be valid, got: {certificate}; mend it, or name its "
                    "authority in data.source.ca_file"
                ) from error
            raise SourceReadError(
                f"{target.shown} must answer to the end, got {_FAILURES[type(error)]}; it is tried again",
                detail=str(error),
            ) from error


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
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None
