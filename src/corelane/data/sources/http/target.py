"""A URL taken apart once and checked: where a request goes, what it asks for, and how it may be shown.

Whatever connects uses these parts and never the text again: no two readers of a URL can disagree about its host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from corelane.core.errors import DataError

_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_KEPT = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"  # everything printable; the rest becomes %XX


@dataclass(frozen=True, slots=True)
class Target:
    """Scheme (lower case), host without brackets, port, and the path with its query as they are sent."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """The parts of `text`; user, password and fragment are left out.

        Raises `DataError`, which does not repeat the text, for what is no URL of a host that can be spoken to.
        """
        try:
            parts = urlsplit(quote(text.strip(), safe=_KEPT, errors="surrogateescape"))
            host, port = parts.hostname or "", parts.port
        except (ValueError, UnicodeError):
            raise DataError("a URL must have a host and a port up to 65535, got another form; correct it") from None
        if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or "\\" in parts.netloc:  # browsers read it as /
            raise DataError(
                f"a URL must begin with https:// and name a host in ASCII, got scheme {parts.scheme!r} and host "
                f"{host!r}; correct it (other letters are written xn--...)"
            )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host.lower(), _PORTS[parts.scheme] if port is None else port, path)

    def join(self, reference: str) -> Target:
        """Where `reference`, found in an answer from here, leads. Raises as `parse` does."""
        try:
            return Target.parse(urljoin(self.url, reference.strip()))
        except ValueError:
            raise DataError(f"{self.shown} must lead to a URL, got another form; use its target itself") from None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: who may see what is meant for this target."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host and port as in a URL and in the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL; it may hold secrets."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def shown(self) -> str:
        """The URL as it may be shown: without the query."""
        return self.url.partition("?")[0]
