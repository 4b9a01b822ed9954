"""Header fields: those of a configuration, checked before anything is sent, and those of an answer, brought together.

A configured value is never repeated in a message: it is where tokens are.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from corelane.core.errors import ConfigError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"([\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?)?")
_FRAMING = (
    "host",
    "connection",
    "keep-alive",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
)
_CONDITIONS = ("range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def own_fields(headers: Mapping[str, str], url: str) -> dict[str, str]:
    """The fields for a URL's own origin, by lower-case name: the configured ones, and the URL's user and password.

    Raises `ConfigError` for a name or value that HTTP does not allow, or that only this package may send.
    """
    fields = {}
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in (*_FRAMING, *_CONDITIONS):
            raise ConfigError(
                f"data.source.headers must neither frame a request nor make it conditional, got {name!r}; leave it out"
            )
        if not _VALUE.fullmatch(value):
            raise ConfigError(
                f"data.source.headers.{name} must be printable ASCII without space at its ends, got something else "
                "(a line break?); correct it"
            )
        fields[name.lower()] = value
    parts = urlsplit(url)
    if parts.username is not None and "authorization" not in fields:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        fields["authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return fields


def received_fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The fields of an answer by lower-case name; one that comes several times is their list (RFC 9110, 5.3).

    Bytes that are no UTF-8 survive as surrogates.
    """
    fields: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("ascii").lower(), value.decode("utf-8", "surrogateescape")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields
