"""NumPy's files: an array a column, whatever its type and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.npz_format import NpzReader


def reader(path: Path, batch_rows: int = 2) -> NpzReader:
    return NpzReader(FrozenFile.freeze(path, "the file"), batch_rows)


def column(made: NpzReader, name: str, start: int = 0) -> list[Any]:
    return [value for chunk in made.read(start) for value in chunk.rows.column(name).to_pylist()]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([1, 2, 3], np.int8), pa.int8()),
        (np.array([1.5, 2.5, 3.5], ">f8"), pa.float64()),
        (np.array([1, 2, 3], ">i4"), pa.int32()),
        (np.array([True, False, True]), pa.bool_()),
        (np.array(["a", "\u00e9", ""]), pa.string()),
        (np.array(["2024-02-29", "2024-03-01", "NaT"], "datetime64[D]"), pa.date32()),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_arrays_become_columns_of_their_type(tmp_path: Path, array: Any, kind: pa.DataType, packed: bool) -> None:
    """In either byte order, packed or not, and alone in an `.npy` file."""
    (np.savez_compressed if packed else np.savez)(tmp_path / "rows.npz", a=array)
    np.save(tmp_path / "rows.npy", array)
    for made, name in ((reader(tmp_path / "rows.npz"), "a"), (reader(tmp_path / "rows.npy"), "x")):
        assert made.schema().field(name).type == kind
        assert column(made, name) == pa.array(array.astype(array.dtype.newbyteorder("="))).to_pylist()
        assert column(made, name, 2) == column(made, name)[2:]


def test_layouts_and_shapes(tmp_path: Path) -> None:
    """More dimensions are tensors, in rows, however they lie in the file; a dimension of none is no row."""
    values = np.arange(24.0).reshape(4, 2, 3)
    np.savez(tmp_path / "rows.npz", c=values, f=np.asfortranarray(values))
    made = reader(tmp_path / "rows.npz")
    for name in ("c", "f"):
        found = [chunk.rows.column(name).to_numpy_ndarray() for chunk in made.read(0)]
        assert np.array_equal(np.concatenate(found), values)
    np.savez(tmp_path / "none.npz", a=np.zeros((0,)))
    assert column(reader(tmp_path / "none.npz"), "a") == []


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": np.array(5.0)},
        {"a": np.array([1j])},
        {"a": np.zeros(2, [("x", "i4")])},
        {"a": np.zeros(3), "b": np.zeros(4)},
        {},
    ],
    ids=["a number", "complex", "records", "lengths", "nothing"],
)
def test_what_is_no_column_is_told(tmp_path: Path, arrays: dict[str, Any]) -> None:
    """Single numbers, kinds that no network takes, and columns of different lengths."""
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(DataError, match=r"must|column"):
        reader(tmp_path / "rows.npz")
