"""Tensors on the wire of the Open Inference Protocol: its types, and its binary extension, tensors as bytes behind, or
in place of, the JSON. The server's codec and the client share it.

Little-endian, row-major, without padding; BOOL takes a byte, an element of BYTES its length in four bytes before it.
The source is Triton's extension_binary_data.md; what it leaves open is decided in docs/serve.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from corelane.core.errors import RequestError
from corelane.core.types import Array

HEADER = "inference-header-content-length"
SIZE, WANTED, ALL_WANTED = "binary_data_size", "binary_data", "binary_data_output"
"""Parameters: the bytes of a tensor that are not in the JSON; that an output comes in bytes; that all of them do."""

TIMEOUT = "timeout"
"""The parameter of a request that says within how many microseconds it must be answered."""

TIMEOUT_HEADER = "corelane-timeout-ms"
"""Within how many milliseconds after its arrival a request must be answered; then 504, and it is not run any more."""

OCTETS = [("content-type", "application/octet-stream")]
INTEGER_TYPES: dict[str, np.dtype[Any]] = {
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
FLOAT_TYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64)}
_NATIVE = {**INTEGER_TYPES, **FLOAT_TYPES, "BOOL": np.dtype(np.bool_)}
TYPES = {name: dtype.newbyteorder("<") for name, dtype in (_NATIVE | {"FP16": np.dtype(np.float16)}).items()}
_PREFIX = np.dtype("<u4")
_IS_LITTLE = sys.byteorder == "little"
_MAX_DIGITS = 12  # of a length that fits a body


def split_body(body: bytes, length: str | None) -> tuple[bytes, memoryview]:
    """The JSON and what follows it; `length` is the header's value, None where there is none.

    Raises `RequestError` when it is not a number of bytes within the body.
    """
    if length is None:
        return body, memoryview(b"")
    if length.isascii() and length.isdecimal() and len(length) <= _MAX_DIGITS:
        num_bytes = int(length)
        if num_bytes <= len(body):
            return body[:num_bytes], memoryview(body)[num_bytes:]
    raise RequestError(f"the header {HEADER} must be at most the body's {len(body)} bytes, got {length[:20]!r}")


class BinaryParts:
    """The bytes behind the JSON, handed out in the order of the tensors. Raises `RequestError` for what is amiss."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._taken = 0

    def take(self, size: Any, name: str) -> memoryview:
        """The next `size` bytes, which a tensor's parameters say."""
        left = len(self._content) - self._taken
        if type(size) is not int or not 0 <= size <= left:
            raise RequestError(f"{SIZE} of {name!r} must be a number of bytes up to the {left} left, got {size!r:.40}")
        self._taken += size
        return self._content[self._taken - size : self._taken]

    def check_end(self) -> None:
        """That nothing is left over."""
        left = len(self._content) - self._taken
        if left:
            raise RequestError(f"the body must end with its last tensor, got {left} bytes more")


NOTHING_BEHIND = BinaryParts(memoryview(b""))
"""Of a body that is JSON alone."""


def read_numbers(content: memoryview, datatype: str, shape: Sequence[int], name: str) -> Array:
    """Numbers or booleans of `datatype` as an array of `shape`, which is read-only."""
    dtype = TYPES[datatype]
    wanted = math.prod(shape) * dtype.itemsize
    if len(content) != wanted:
        raise RequestError(
            f"{name!r} must have {wanted} bytes as its shape {list(shape)} of {datatype} says, got {len(content)}"
        )
    if dtype.kind == "b" and bytes(content).strip(b"\x00\x01"):
        raise RequestError(f"{name!r} must hold bytes 0 and 1 for booleans, got another")
    return np.frombuffer(content, dtype).reshape(shape)


def read_bytes(content: memoryview, num_elements: int, name: str) -> list[bytes]:
    """The elements of BYTES, of which there must be `num_elements`."""
    elements: list[bytes] = []
    place = 0
    while place < len(content) and len(elements) < num_elements:
        start = place + _PREFIX.itemsize
        size = int.from_bytes(content[place:start], "little")
        place = start + size
        if start > len(content) or place > len(content):
            raise RequestError(f"{name!r} must hold each element's length before it, got one that leads out of it")
        elements.append(bytes(content[start:place]))
    if place != len(content) or len(elements) != num_elements:
        raise RequestError(
            f"{name!r} must hold {num_elements} elements in its bytes, got "
            f"{len(elements) if place == len(content) else 'more'}"
        )
    return elements


def write_array(array: Array) -> bytes:
    """An output as bytes; texts as BYTES in UTF-8."""
    if array.dtype.kind == "O":
        texts = [str(element).encode() for element in array.ravel()]
        return b"".join([len(text).to_bytes(4, "little") + text for text in texts])
    if not array.dtype.isnative or not _IS_LITTLE:
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()
