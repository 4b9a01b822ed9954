"""Golden rows: a few raw rows with the answers of the training path, checked whenever a package is loaded.

They catch what a checksum cannot: another library version, another machine's kernels, a pipeline that reads its own
JSON differently. Stored as one Arrow file, columns `row.<column>` and `expected.<output>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from corelane.core.errors import BundleError, GoldenError, MemoryBudgetError, RequestError, SkewError
from corelane.core.types import Array
from corelane.data.stages.cast_tensor import tensor_array
from corelane.model.predictor import Predictor
from corelane.model.skew import Tolerance, compare, probe_rows, raw_columns

MAX_GOLDEN = 32  # one batch: enough to touch every column and class, cheap enough for every start of every worker
_ROW, _EXPECTED = "row.", "expected."


@dataclass(frozen=True, slots=True)
class Golden:
    """Checked raw rows [n] and the expected outputs by name, each with n rows."""

    rows: pa.RecordBatch
    expected: Mapping[str, Array]

    @classmethod
    def of(cls, reference: Predictor, rows: pa.RecordBatch | pa.Table) -> Golden:
        """Answers of `reference` (the training path) to the first of `rows` and their variants, at most 32 in all."""
        probes = probe_rows(reference.pipeline, rows.slice(0, MAX_GOLDEN // 2)).slice(0, MAX_GOLDEN)
        return cls(probes, reference.predict_table(probes))

    def check(self, predictor: Predictor, tolerance: Tolerance, *, name: str) -> None:
        """Ask `predictor` again through the serving path. Raises `GoldenError`, which calls the package `name`."""
        try:
            compare(self.expected, predictor.predict_columns(raw_columns(self.rows)), tolerance)
        except (SkewError, MemoryBudgetError, RequestError) as error:
            raise GoldenError(
                f"package {name} must reproduce its golden rows on this machine, got: {error.message}"
            ) from error

    def write(self, path: Path) -> None:
        """Write the rows and answers as an Arrow file."""
        columns = {_ROW + name: self.rows.column(name) for name in self.rows.schema.names}
        columns |= {_EXPECTED + name: _to_arrow(values) for name, values in self.expected.items()}
        write_arrow(path, pa.table(columns))

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Golden:
        """What `write` wrote, of its bytes; `path` is for messages. Raises `BundleError` when it is not such a file."""
        table = parse_arrow(content, path)
        rows = [name for name in table.schema.names if name.startswith(_ROW)]
        expected = [name for name in table.schema.names if name.startswith(_EXPECTED)]
        if not rows or not expected or not table.num_rows:
            raise BundleError(
                f"{path} must hold rows and expected outputs, got {table.schema.names}; package the run again"
            )
        batch = table.select(rows).rename_columns([name.removeprefix(_ROW) for name in rows])
        outputs = {name.removeprefix(_EXPECTED): _to_numpy(table.column(name)) for name in expected}
        return cls(batch.combine_chunks().to_batches()[0], outputs)


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write `table` as one uncompressed Arrow file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def parse_arrow(content: bytes, path: Path) -> pa.Table:
    """An Arrow file's content whole. Raises `BundleError`, which names `path`, when it is none."""
    try:
        return pa.ipc.open_file(pa.BufferReader(content)).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise BundleError(f"{path} must be an Arrow file, got something else; package the run again") from error


def _to_arrow(values: Array) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    if values.ndim > 2:
        return tensor_array(values.view(np.uint8) if values.dtype == np.bool_ else values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def _to_numpy(column: pa.ChunkedArray) -> Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if isinstance(array.type, pa.FixedShapeTensorType):
        tensors: Array = array.to_numpy_ndarray()
        return tensors
    if pa.types.is_fixed_size_list(array.type):
        flat: Array = array.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(array), array.type.list_size)
    result: Array = array.to_numpy(zero_copy_only=False)
    return result
