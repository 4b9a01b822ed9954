"""A safetensors file as memory: tensors are copied straight to where they lie in the file, and the file is written from
there without another copy. Reading trusts nothing: the header is bounded and checked before anything is allocated.

`checkpoint.py` calls it. The format: https://github.com/huggingface/safetensors#format (eight bytes with the header's
length, a JSON header padded with spaces, the data without holes). Its own reader takes duplicate names.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from corelane.core.errors import BundleError, StateError

MAX_HEADER_BYTES = 16 << 20  # about 100,000 tensors with long names
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 64
ALIGNMENT = 64  # of the data: a cache line, the widest vector register, and what torch's allocator gives

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LENGTH_BYTES = 8

Layout = tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]
"""Names, types and shapes of the tensors in a file, in the order of their data."""


class TensorFile:
    """The bytes of one safetensors file, `content`, and the tensors in them by name, which share its memory.

    Raises `StateError` naming a tensor whose type cannot be stored.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        header, starts, size = _header(layout)
        begin = _LENGTH_BYTES + len(header)
        memory = torch.empty(begin + size, dtype=torch.uint8)
        self.content = _bytes_of(memory)
        self.content[:begin] = len(header).to_bytes(_LENGTH_BYTES, "little") + header
        self.tensors = _views(memory[begin:], layout, starts)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> TensorFile:
        """A new file with copies of `tensors`."""
        file = cls(layout_of(tensors))
        file.fill(tensors)
        return file

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy `tensors`, whose layout is this file's, into it; any strides."""
        with torch.no_grad():
            for name, own in self.tensors.items():
                own.copy_(tensors[name])
        self.__dict__.pop("sha256", None)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of `content`; kept until the next `fill`."""
        return hashlib.sha256(self.content).hexdigest()


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout for `tensors`: by falling size of an element, so that each is aligned, then by name."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    return tuple((name, tensor.dtype, tuple(tensor.shape)) for name, tensor in ordered)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the file at `path`, in memory of their own. Raises `BundleError` when it is not safetensors."""
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise _not_ours(path, f"a header of {length} bytes in a file of {size}")
        try:
            layout, starts = _checked(file.read(length), size - _LENGTH_BYTES - length)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _not_ours(path, f"a header that is wrong ({error})") from error
        memory = torch.empty(size - _LENGTH_BYTES - length, dtype=torch.uint8)
        if file.readinto(_bytes_of(memory)) != memory.numel():
            raise _not_ours(path, "a file that was cut while it was read")
    return _views(memory, layout, starts)


def _header(layout: Layout) -> tuple[bytes, list[int], int]:
    """The padded JSON header, where each tensor's data begin, and how many bytes of data there are."""
    entries: dict[str, Any] = {}
    starts, end = [], 0
    for name, dtype, shape in layout:
        if dtype not in _NAMES:
            raise StateError(f"the tensor {name!r} must have a type that can be saved, got {dtype}; convert it")
        starts.append(end)
        end += math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [starts[-1], end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-(_LENGTH_BYTES + len(text)) % ALIGNMENT), starts, end


def _checked(header: bytes, num_bytes: int) -> tuple[Layout, list[int]]:
    """Layout and starts of a header read from disk, whose tensors fill the data without overlap and without a hole."""
    entries = json.loads(header, object_pairs_hook=_without_duplicates)
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise ValueError(f"{len(entries)} tensors, at most {MAX_TENSORS}")
    found = sorted((_entry(name, entry) for name, entry in entries.items()), key=lambda item: item[3:])
    end = 0
    for name, dtype, shape, begin, stop in found:
        if begin != end or stop - begin != math.prod(shape) * dtype.itemsize or begin % dtype.itemsize:
            raise ValueError(f"tensor {name!r} is not where it must be")
        end = stop
    if end != num_bytes:
        raise ValueError(f"tensors of {end} bytes, the file has {num_bytes}")
    return tuple(item[:3] for item in found), [item[3] for item in found]


def _entry(name: str, entry: Any) -> tuple[str, torch.dtype, tuple[int, ...], int, int]:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    numbers = [*shape, begin, end]
    if len(shape) > MAX_DIMENSIONS or not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers):
        raise ValueError(f"tensor {name!r} has an impossible shape or place")
    return name, _DTYPES[entry["dtype"]], tuple(shape), begin, end


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _views(data: Tensor, layout: Layout, starts: list[int]) -> dict[str, Tensor]:
    return {
        name: data[start : start + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
        for (name, dtype, shape), start in zip(layout, starts, strict=True)
    }


def _bytes_of(memory: Tensor) -> memoryview:
    return memoryview(cast(Any, memory.numpy()))


def _not_ours(path: Path, got: str) -> BundleError:
    return BundleError(f"{path} must be safetensors, got {got}; remove this checkpoint, an older one is used")
