"""Reading a request body within limits: its type and encoding, its size, and no byte more than allowed.

A body that declares too great a length is refused unread. Slowness is not judged here: `http.py` sweeps all open
requests with one timer.
"""

from __future__ import annotations

import zlib

from corelane.core.errors import PayloadTooLargeError, RequestError, UnsupportedMediaError
from corelane.web.exchange import RequestHeaders

# A body has to come in pieces of this mean size at least: a megabyte in one-byte chunks costs a thousand times the work
# of the same megabyte sent whole.
MIN_MEAN_PIECE = 16
FREE_PIECES = 1024

_OCTETS = "application/octet-stream"
_PLAIN_TYPES = frozenset(
    {None, "application/json", "application/json; charset=utf-8", "application/json;charset=utf-8", _OCTETS}
)
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""What zlib is told of each encoding: a gzip file, or zlib's own format (which HTTP calls deflate)."""


def check_headers(headers: RequestHeaders, max_body: int) -> None:
    """Check type, encoding and declared length. Raises `UnsupportedMediaError` and `PayloadTooLargeError`."""
    if headers.get("content-type") not in _PLAIN_TYPES:
        _check_type(headers.get("content-type") or "")
    if "content-encoding" in headers:
        _check_encoding(headers.get("content-encoding") or "")
    length = headers.get("content-length")
    if length is not None and int(length) > max_body:
        raise _too_large(max_body, length)


def check_piece(num_pieces: int, num_bytes: int, max_body: int) -> None:
    """Check a body of which so many pieces, of so many bytes together, have come.

    Raises `PayloadTooLargeError`, and `RequestError` for a flood of tiny pieces.
    """
    if num_bytes > max_body:
        raise _too_large(max_body, f"more than {max_body}")
    if num_pieces > FREE_PIECES and num_bytes < MIN_MEAN_PIECE * num_pieces:
        raise RequestError("a body must not come in thousands of tiny pieces; send it with a Content-Length, at once")


def unpacked(body: bytes, headers: RequestHeaders, max_body: int) -> bytes:
    """`body` without its content encoding.

    Raises `RequestError` when it is not what the header says, or has something behind it; `PayloadTooLargeError` as
    soon as more than `max_body` bytes have come out of it.
    """
    encoding = (headers.get("content-encoding") or "identity").strip().lower()
    if encoding == "identity":
        return body
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = unpacker.decompress(body, max_body + 1)
    except zlib.error as error:
        raise RequestError(f"the body must be {encoding} as its header says, got other bytes") from error
    if len(content) > max_body:
        raise _too_large(max_body, f"more than {max_body} out of {len(body)} packed ones")
    if not unpacker.eof or unpacker.unused_data:
        raise RequestError(f"the body must be one whole {encoding} stream, got one that is cut, or more behind it")
    return content


def _check_encoding(encoding: str) -> None:
    if encoding.strip().lower() not in {*_WINDOW_BITS, "identity"}:
        raise UnsupportedMediaError(
            f"the content encoding must be gzip, deflate or identity, got {encoding[:80]!r}; pack it so, or not at all"
        )


def _check_type(content_type: str) -> None:
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        raise UnsupportedMediaError(
            "the content type must be application/json in UTF-8, or application/octet-stream for binary tensors, "
            f"got {content_type[:80]!r}; send the header Content-Type: application/json"
        )


def _too_large(max_body: int, got: str) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body must be at most {max_body} bytes, got {got}; send fewer rows, or raise serve.max_body"
    )
