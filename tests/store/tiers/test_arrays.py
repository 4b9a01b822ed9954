"""Named arrays as files: data only, whole, and readable by any NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corelane.core.errors import BundleError
from corelane.store.tiers.arrays import load_arrays, map_arrays, write_arrays

ARRAYS = {"a/b": np.arange(6, dtype=np.int16).reshape(2, 3), "": np.array([1.5, np.nan]), "none": np.empty((0, 2))}


@pytest.mark.parametrize("read", [load_arrays, map_arrays])
def test_names_and_values_come_back_read_only(tmp_path: Path, read: object) -> None:
    """Names of any signs, in their order; arrays that cannot be written to."""
    write_arrays(tmp_path, ARRAYS)
    found = read(tmp_path)  # type: ignore[operator]
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert not found[name].flags.writeable


def test_objects_are_refused(tmp_path: Path) -> None:
    """What would need pickle is neither written nor read."""
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_arrays(tmp_path, {"x": np.array([{}])})
    np.save(tmp_path / "0.npy", np.array([{}]), allow_pickle=True)
    for read in (load_arrays, map_arrays):
        with pytest.raises(BundleError, match="must hold named arrays"):
            read(tmp_path)
