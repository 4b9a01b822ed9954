"""The data of the benchmarks: generated once into `benchmarks/.data`, the same bytes every time, and found there later.

Every file is written under a temporary name and renamed, so that what is there is whole. Runs in Corelane's own
environment; peers only read the files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data.cases import LABEL, MISSING_SHARE, NUM_CATEGORIES, NUM_LEVELS, NUM_NUMBERS
from benchmarks.measure import say
from corelane.data.appender import FileAppender
from corelane.data.config import SplitConfig
from corelane.data.split import part_of

FOLDER = Path(__file__).resolve().parent.parent / ".data"
SEED = 11
SPLIT = SplitConfig(validation=0.1, test=0.2)
FASHION_SIDE = 28

_VERSION = 1  # of what is generated; in every name, so that old files are not taken for new ones
_CHUNK_ROWS = 500_000


def table(folder: Path, num_rows: int) -> Path:
    """A Parquet file of 20 columns of numbers, 10 of categories, 2 % missing in each, and a label of 3 classes."""
    return _once(folder / f"table-{num_rows}-v{_VERSION}.parquet", lambda path: _write_table(path, num_rows))


def parts(folder: Path, num_rows: int) -> Path:
    """An `.npy` file, int8 [num_rows]: 0, 1, 2 for training, validation and test, as Corelane divides the table."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, part_of(SEED, np.arange(num_rows), SPLIT))

    return _once(folder / f"parts-{num_rows}-v{_VERSION}.npy", write)


def arrays(folder: Path, num_rows: int, width: int) -> Path:
    """A folder with the arrays of a prepared part: `0.npy` float32 [num_rows, width], `target.npy`, `positions.npy`."""
    return _once(folder / f"arrays-{num_rows}x{width}-v{_VERSION}", lambda path: _write_arrays(path, num_rows, width))


def images(num_rows: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Random colour pictures, uint8 [num_rows, side, side, 3], and labels of ten classes, int64 [num_rows]."""
    random = np.random.default_rng([SEED, side])
    pictures = random.integers(0, 256, (num_rows, side, side, 3), dtype=np.uint8)
    return pictures, random.integers(0, 10, num_rows)


def _once(path: Path, write: Callable[[Path], None]) -> Path:
    if path.exists():
        return path
    say(f"generating {path.name} ...")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    write(unfinished)
    unfinished.rename(path)
    return path


def _write_table(path: Path, num_rows: int) -> None:
    writer: pq.ParquetWriter | None = None
    for index, first in enumerate(range(0, num_rows, _CHUNK_ROWS)):
        chunk = _table_chunk(np.random.default_rng([SEED, index]), min(_CHUNK_ROWS, num_rows - first))
        if writer is None:
            writer = pq.ParquetWriter(path, chunk.schema)
        writer.write_table(chunk)
    if writer is not None:
        writer.close()


def _table_chunk(random: np.random.Generator, num_rows: int) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for index in range(NUM_NUMBERS):
        values = random.normal(10.0 * index, 1.0 + index, num_rows)
        columns[f"number_{index}"] = pa.array(values, mask=random.random(num_rows) < MISSING_SHARE)
    levels = pa.array([f"level {level}" for level in range(NUM_LEVELS)])
    for index in range(NUM_CATEGORIES):
        chosen = pa.array(
            random.integers(0, NUM_LEVELS, num_rows, dtype=np.int32), mask=random.random(num_rows) < MISSING_SHARE
        )
        columns[f"category_{index}"] = levels.take(chosen)
    columns[LABEL] = pa.array(random.integers(0, 3, num_rows))
    return pa.table(columns)


def _write_arrays(path: Path, num_rows: int, width: int) -> None:
    path.mkdir(parents=True)
    random = np.random.default_rng([SEED, width])
    layout = (("0", np.dtype(np.float32), (width,)), ("target", np.dtype(np.int64), ()))
    with (
        FileAppender(path / "0.npy", layout[0][1], (width,), max_rows=num_rows) as inputs,
        FileAppender(path / "target.npy", layout[1][1], (), max_rows=num_rows) as target,
        FileAppender(path / "positions.npy", layout[1][1], (), max_rows=num_rows) as positions,
    ):
        for first, count in _chunks(num_rows, max(1, _CHUNK_ROWS * NUM_NUMBERS // width)):
            inputs.append(random.standard_normal((count, width), dtype=np.float32))
            target.append(random.integers(0, 10, count))
            positions.append(np.arange(first, first + count))
        for appender in (inputs, target, positions):
            appender.finish()


def _chunks(num_rows: int, height: int) -> Iterator[tuple[int, int]]:
    for first in range(0, num_rows, height):
        yield first, min(height, num_rows - first)
