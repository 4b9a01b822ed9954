"""A safetensors file in memory, and what is refused when one is read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from corelane.core.errors import BundleError, StateError
from corelane.train.tensor_file import MAX_HEADER_BYTES, TensorFile, read_tensors

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).to(memory_format=torch.contiguous_format),
    "half": torch.arange(6, dtype=torch.bfloat16),
    "scalar": torch.tensor(3.5, dtype=torch.float64),
    "flags": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 5),
    "count": torch.tensor([1, 2, 3]),
    "strided": torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
}


def test_the_format_is_that_of_the_library(tmp_path: Path) -> None:
    """What is written is read by the safetensors package, and by us, each tensor equal and the data aligned."""
    (tmp_path / "x").write_bytes(TensorFile.of(TENSORS).content)
    for read in (load_file(tmp_path / "x"), read_tensors(tmp_path / "x")):
        assert read.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert read[name].dtype == tensor.dtype
            assert torch.equal(read[name], tensor)
    header = int.from_bytes((tmp_path / "x").read_bytes()[:8], "little")
    assert (8 + header) % 64 == 0


def test_a_file_is_filled_again() -> None:
    """The same memory takes the next values, and its digest is that of them."""
    file = TensorFile.of({"x": torch.zeros(4)})
    before, address = file.sha256, file.tensors["x"].data_ptr()
    file.fill({"x": torch.ones(4)})
    assert file.sha256 != before
    assert file.sha256 == TensorFile.of({"x": torch.ones(4)}).sha256
    assert file.tensors["x"].data_ptr() == address


def test_a_type_that_cannot_be_stored_is_named() -> None:
    """Complex numbers are refused by the tensor's name."""
    with pytest.raises(StateError, match="'phase' must have a type that can be saved"):
        TensorFile.of({"phase": torch.zeros(2, dtype=torch.complex64)})


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def file_of(header: bytes, data: bytes = bytes(8)) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


A13 = {
    "a pickle": pickle.dumps({"x": [1, 2, 3]}),
    "nothing": b"",
    "a header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "a header above the limit": (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 9),
    "no JSON": file_of(b"[[[["),
    "deep JSON": file_of(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a list": file_of(b"[1, 2]"),
    "a huge shape": file_of(json.dumps({"x": entry(shape=(1 << 40, 1 << 40))}).encode()),
    "a product that would overflow": file_of(json.dumps({"x": entry(shape=(1 << 32, 1 << 32, 1 << 1))}).encode()),
    "a negative size": file_of(json.dumps({"x": entry(shape=(-2,))}).encode()),
    "a size that is no integer": file_of(json.dumps({"x": entry(shape=(2.0,))}).encode()),
    "overlapping offsets": file_of(json.dumps({"x": entry(), "y": entry()}).encode()),
    "a hole": file_of(json.dumps({"x": entry(offsets=(8, 16))}).encode(), bytes(16)),
    "data that nothing names": file_of(json.dumps({"x": entry()}).encode(), bytes(16)),
    "offsets beyond the file": file_of(json.dumps({"x": entry(shape=(200,), offsets=(0, 800))}).encode()),
    "an unknown type": file_of(json.dumps({"x": entry("OBJECT")}).encode()),
    "a name twice": file_of(b'{"x":' + json.dumps(entry()).encode() + b',"x":' + json.dumps(entry()).encode() + b"}"),
    "more tensors than there can be": file_of(
        json.dumps({f"{n:x}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_001)}).encode(),
        b"",
    ),
}


@pytest.mark.parametrize("name", A13)
def test_what_is_malicious_is_refused_before_it_takes_memory(tmp_path: Path, name: str) -> None:
    """A13: pickles, shapes and headers of any size, overlaps, holes, duplicates: refused, with the path."""
    (tmp_path / "x").write_bytes(A13[name])
    with pytest.raises(BundleError, match="x must be safetensors"):
        read_tensors(tmp_path / "x")
