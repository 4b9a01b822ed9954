"""Named arrays as the files of a bundle: `names.json`, and `<index>.npy` for each array. They cannot hold code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from corelane.core.errors import BundleError
from corelane.core.types import Array

ARRAYS_KIND = "arrays"
_NAMES = "names.json"


def write_arrays(directory: Path, arrays: Mapping[str, Array]) -> None:
    """Write `arrays` into `directory`. Raises `ValueError` for arrays of Python objects."""
    write_names(directory, list(arrays))
    for index, array in enumerate(arrays.values()):
        np.save(directory / f"{index}.npy", array, allow_pickle=False)


def write_names(directory: Path, names: Sequence[str]) -> None:
    """Write the names of arrays whose files are, or will be, `<index>.npy` in the same order."""
    (directory / _NAMES).write_text(json.dumps(list(names)), encoding="utf-8")


def map_arrays(directory: Path) -> dict[str, Array]:
    """What `write_arrays` wrote, read-only and memory-mapped. Raises `BundleError` for what it did not write."""
    return _read(directory, map_array)


def load_arrays(directory: Path) -> dict[str, Array]:
    """What `write_arrays` wrote, read-only and in memory. Raises `BundleError` for what it did not write."""
    return _read(directory, _load_array)


def map_array(path: Path) -> Array:
    """A read-only map of the `.npy` file at `path`, as a plain array: slicing the memmap class costs microseconds."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _load_array(path: Path) -> Array:
    array: Array = np.load(path, allow_pickle=False)
    array.flags.writeable = False
    return array


def _read(directory: Path, read: Callable[[Path], Array]) -> dict[str, Array]:
    try:
        names = json.loads((directory / _NAMES).read_bytes())
        return {str(name): read(directory / f"{index}.npy") for index, name in enumerate(names)}
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{directory} must hold named arrays, got something else; remove it") from error
