"""The head of a request: its limits, and what its bytes mean where the parser leaves that open (RFC 9112)."""

from __future__ import annotations

from urllib.parse import unquote

import httptools

from corelane.core.errors import HeadTooLargeError, RequestError
from corelane.web.exchange import Exchange, RequestHeaders

MAX_HEAD_BYTES = 64 << 10  # request line and headers
MAX_HEADERS = 100
_NAMES = {
    spelling: name
    for name in ("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent")
    for spelling in (name.encode(), name.title().encode())
}
"""Names as nearly all clients spell them; others are lowered."""


def path_of(url: bytes) -> str:
    """The decoded path of a request's target. Raises `RequestError` for a target that is none."""
    if not url.startswith(b"/"):
        try:
            url = httptools.parse_url(url).path or b"*"
        except httptools.HttpParserInvalidURLError as error:
            raise RequestError("the target must be a path, got none") from error
    path = url.partition(b"?")[0].decode("latin-1")
    return unquote(path, errors="replace") if "%" in path else path


def headers_of(fields: list[bytes]) -> dict[str, str]:
    """The first value of each header. Raises `RequestError` for a second Host."""
    headers: dict[str, str] = {}
    for place in range(0, len(fields), 2):
        name = fields[place]
        key = _NAMES.get(name) or name.lower().decode("latin-1")
        if key not in headers:
            headers[key] = fields[place + 1].decode("latin-1")
        elif key == "host":
            raise RequestError("the header Host must come once, got it twice")
    return headers


def check_head(version: str, exchange: Exchange) -> None:
    """Raise `RequestError` for what the parser lets pass and HTTP does not."""
    headers = exchange.headers
    if version not in ("1.0", "1.1"):
        raise RequestError(f"the version must be HTTP/1.1 or HTTP/1.0, got {version}")
    if version == "1.1" and "host" not in headers:
        raise RequestError("the header Host must be there, got none")
    if "transfer-encoding" in headers and headers["transfer-encoding"].strip().lower() != "chunked":
        raise RequestError("the transfer encoding must be chunked alone; pack bodies by Content-Encoding")


def without_upgrade(method: str, url: bytes, headers: RequestHeaders) -> bytes:
    """The head, without its wish for another protocol."""
    kept = "".join([f"{name}: {value}\r\n" for name, value in headers.items() if name != "upgrade"])
    return f"{method} {url.decode('latin-1')} HTTP/1.1\r\n{kept}\r\n".encode("latin-1")


def head_too_large() -> HeadTooLargeError:
    """What a head beyond the limits is refused with."""
    return HeadTooLargeError(
        f"the head must be at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers, got more; send fewer"
    )
