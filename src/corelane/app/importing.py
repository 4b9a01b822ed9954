"""`corelane import-model`: somebody else's network as a package, behind the same gate as ours.

An ONNX file, or a `torch.nn.Module` by its import path with its weights; both become a graph that a process with limits
has judged (`foreign.py`). Each of its inputs is one column. Torch is imported for a module only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.app.foreign import Apart
from corelane.app.serving import child_server, served_predict
from corelane.app.sources import open_source, source_of
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError, DataError
from corelane.core.types import Array, JsonObject
from corelane.data.schema import Column
from corelane.data.stages.cast_array import array_column
from corelane.data.stages.cast_tensor import tensor_array
from corelane.data.tensor_pipeline import MAX_LENGTH, TensorPipeline
from corelane.model.decode import finite_rows
from corelane.model.description import Provenance, check_name
from corelane.model.golden import MAX_GOLDEN, Golden
from corelane.model.package import FOREIGN, PackageContents, write_package
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.skew import MAX_PROBES, Tolerance, compare
from corelane.serve.pace import neutral_columns

PACKAGES = Path("packages")
MAX_ELEMENTS = 8 << 20  # of the gate's rows together: they travel as JSON
NEUTRAL_ROWS = 3
IMPORT_PATH = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")


@dataclass(frozen=True)
class _Sample:
    """Checked rows in groups of one shape each, and what the network itself answers to each group."""

    groups: Sequence[pa.RecordBatch]
    answers: Sequence[Mapping[str, Array]]

    @property
    def largest(self) -> int:
        """The number of the group with the most rows: those that a package can keep."""
        return max(range(len(self.groups)), key=lambda index: self.groups[index].num_rows)


def import_model(
    model: str,
    *,
    data: str | None = None,
    labels: str | None = None,
    weights: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    name: str | None = None,
    directory: Path | None = None,
    include_rows: bool = True,
    max_length: int = MAX_LENGTH,
    clock: Clock | None = None,
) -> JsonObject:
    """Publish `model`, an ONNX file or `package.module:Class` with `weights` in safetensors, as a package.

    `data` holds rows with a column for each input, by name: for the skew gate, and as samples in the package for
    `corelane optimize`. Without it an ONNX file is checked with rows of zeros. `max_length` bounds each free length of
    a served row. Returns the package and what it takes and gives. Raises `ConfigError`, `DataError`, `SkewError`, and
    `BundleError` for a model that is refused.
    """
    is_module = IMPORT_PATH.match(model) is not None and not Path(model).exists()
    if is_module != (weights is not None) or (arguments and not is_module):
        raise ConfigError(
            "--weights and --argument must be given for an import path package.module:Class, and for nothing else, "
            f"got {model!r}"
        )
    name = check_name(name or _name_of(model))
    raw = None if data is None else _raw_rows(data, labels)
    with TemporaryDirectory(prefix="corelane-import-") as folder:
        if weights is not None:
            apart, pipeline, sample = _of_module(Path(folder), model, weights, arguments or {}, raw, max_length)
        else:
            apart, pipeline, sample = _of_file(Path(folder), Path(model), raw, max_length)
    rows = sample.groups[sample.largest]
    expected = sample.answers[sample.largest]
    tolerance = Tolerance.of_answers(
        {name: np.concatenate([one[name].reshape(-1) for one in sample.answers]) for name in expected}
    )
    kept = pa.Table.from_batches([rows]) if raw is not None and include_rows else None
    contents = PackageContents(
        name=name,
        pipeline=pipeline,
        architecture={"net": FOREIGN, "opset": apart.graph.opset, "nodes": apart.graph.num_nodes},
        weights=None,
        graphs={"fp32": apart.content},
        tolerances={"fp32": tolerance},
        metrics={},
        provenance=_provenance((clock or SystemClock()).now(), with_torch=is_module),
        golden=None if kept is None else _golden(rows, expected),
        calibration=kept,
        holdout=kept,
        outputs=apart.graph.answers(),
    )

    def gate(staged: Path) -> None:
        with child_server(staged) as url:
            for group, answers in zip(sample.groups, sample.answers, strict=True):
                compare(answers, served_predict(url, staged, group), tolerance)

    published = write_package(directory or PACKAGES, contents, gate)
    return {
        "package": str(published),
        "inputs": [f"{one.name} {one.dtype} {[-1, *one.shape]}" for one in apart.graph.inputs],
        "outputs": [f"{one.name} {one.dtype} {[-1, *one.shape]}" for one in apart.graph.outputs],
        "opset": apart.graph.opset,
        "compared_rows": sum(group.num_rows for group in sample.groups),
    }


def _of_file(folder: Path, path: Path, raw: pa.Table | None, max_length: int) -> tuple[Apart, TensorPipeline, _Sample]:
    if not path.is_file():
        raise ConfigError(f"the model must be an ONNX file or package.module:Class, got {str(path)!r}; check the path")
    apart = Apart(folder, read_graph(path).content)
    pipeline = TensorPipeline(apart.graph.columns(), max_length)
    rows = _neutral(pipeline) if raw is None else _checked(pipeline, raw)
    groups = _groups(pipeline, rows)
    answers = apart.answers([pipeline.transform(group) for group in groups])
    return apart, pipeline, _finite_sample(_answered(groups, answers), answers, is_neutral=raw is None)


def _of_module(
    folder: Path, path: str, weights: Path, arguments: Mapping[str, Any], raw: pa.Table | None, max_length: int
) -> tuple[Apart, TensorPipeline, _Sample]:
    if raw is None:
        raise ConfigError(f"--data must be given for {path}, got none: its rows say what the network takes")
    from corelane.model.foreign.module import ForeignModule  # noqa: PLC0415 - torch for a module only

    module = ForeignModule(path, weights, arguments)
    columns = tuple(_column_of(name, raw) for name in module.inputs(raw.schema.names))
    pipeline = TensorPipeline(columns)
    groups = _groups(pipeline, _checked(pipeline, raw))
    inputs = [pipeline.transform(group) for group in groups]
    apart = Apart(folder, module.graph(columns, inputs[0]))
    # The graph says what it takes in its own words: a length may have become fixed in the tracing.
    pipeline = TensorPipeline(apart.graph.columns(), max_length)
    groups = _groups(pipeline, _checked(pipeline, raw))
    # That each row has an answer of its own, and how many rows can be compared.
    groups = _answered(groups, apart.answers([pipeline.transform(group) for group in groups]))
    answers = [module.answers(pipeline.transform(group)) for group in groups]
    return apart, pipeline, _finite_sample(groups, answers, is_neutral=False)


def _answered(groups: Sequence[pa.RecordBatch], answers: Sequence[Mapping[str, Array]]) -> list[pa.RecordBatch]:
    """The rows that have answers: the first of `groups`, and of each the first."""
    return [group[: _num_rows(one)] for group, one in zip(groups, answers, strict=False)]


def _finite_sample(
    groups: Sequence[pa.RecordBatch], answers: Sequence[Mapping[str, Array]], *, is_neutral: bool
) -> _Sample:
    """The rows whose answers are finite: others a server refuses to give. Raises `ConfigError` where none is."""
    are_finite = [np.all([finite_rows(values) for values in one.values()], axis=0) for one in answers]
    kept = [
        (group.filter(pa.array(is_finite)), {name: values[is_finite] for name, values in one.items()})
        for group, one, is_finite in zip(groups, answers, are_finite, strict=True)
        if is_finite.any()
    ]
    if not kept:
        rows, advice = ("rows of zeros", "give others: --data") if is_neutral else ("the rows", "give others")
        raise ConfigError(f"the network must give finite numbers, got NaN or infinity for all {rows}; {advice}")
    return _Sample([group for group, _ in kept], [one for _, one in kept])


def _num_rows(answers: Mapping[str, Array]) -> int:
    return len(next(iter(answers.values())))


def _column_of(name: str, raw: pa.Table) -> Column:
    cells = raw.column(name).combine_chunks()
    return array_column(name, pa.concat_arrays(cells.chunks) if isinstance(cells, pa.ChunkedArray) else cells)


def _raw_rows(data: str, labels: str | None) -> pa.Table:
    """The first rows of `data`, as they come."""
    batches, num_rows = [], 0
    for batch in open_source(source_of(data, labels)).batches():
        batches.append(batch.rows)
        num_rows += batch.rows.num_rows
        if num_rows >= MAX_PROBES:
            break
    if not num_rows:
        raise DataError(f"--data must have at least one row, got none in {data}; check it")
    return pa.Table.from_batches(batches).slice(0, MAX_PROBES)


def _checked(pipeline: TensorPipeline, raw: pa.Table) -> pa.RecordBatch:
    """The valid ones of the rows, no more than can be compared in a short time."""
    (rows,) = raw.combine_chunks().to_batches()
    checked = pipeline.schema.check(rows, needs_target=False)
    if not checked.rows.num_rows:
        raise DataError(f"--data must have a valid row, got none: {checked.rejects[0].reason}")
    elements = max(1, sum(math.prod(values.shape[1:]) for values in pipeline.transform(checked.rows[:1]).values()))
    return checked.rows.slice(0, max(1, MAX_ELEMENTS // elements))


def _neutral(pipeline: TensorPipeline) -> pa.RecordBatch:
    columns = neutral_columns(pipeline.schema.columns, NEUTRAL_ROWS)
    arrays = [_arrow(np.asarray(columns[name])) for name in pipeline.schema.names]
    rows = pa.RecordBatch.from_arrays(arrays, names=list(pipeline.schema.names))
    return pipeline.schema.check(rows, needs_target=False).rows


def _arrow(values: Array) -> pa.Array:
    plain = values.astype(np.uint8) if values.dtype == np.bool_ else values
    return tensor_array(plain) if plain.ndim > 1 else pa.array(plain)


def _groups(pipeline: TensorPipeline, rows: pa.RecordBatch) -> list[pa.RecordBatch]:
    return [rows.take(pa.array(group)) for group in pipeline.alike(rows)]


def _golden(rows: pa.RecordBatch, expected: Mapping[str, Array]) -> Golden:
    return Golden(rows.slice(0, MAX_GOLDEN), {name: values[:MAX_GOLDEN] for name, values in expected.items()})


def _provenance(created_s: float, *, with_torch: bool) -> Provenance:
    return Provenance(
        corelane=version("corelane"),
        torch=version("torch") if with_torch else "",
        onnx=version("onnx"),
        data_fingerprint={},
        config_digest="",
        created=datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _name_of(model: str) -> str:
    """A package's name from a file's or a class's."""
    plain = model.rpartition(":")[2] if IMPORT_PATH.match(model) else Path(model).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-_.")[:64] or "model"
