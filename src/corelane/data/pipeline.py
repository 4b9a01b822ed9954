"""The pipeline: checked rows in, named tensors out; fitted once on the training part, frozen, and stored as JSON.

It groups the schema's columns into stages and its stages into outputs: everything tabular is concatenated into
"features", an image column becomes "image", a tensor of two or more dimensions "tensor", a column of tokens "tokens"
(with the column's name appended where there are several). All are float32 but for tokens, which are int64. Training
and offline scoring call `transform`; serving calls what `compile` returns, which gives the same bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from corelane.core.errors import ConfigError, DataError, StateError
from corelane.core.types import Array, JsonObject, StatedTask, Task
from corelane.data.compiled import CompiledPipeline
from corelane.data.config import PipelineConfig
from corelane.data.plan import plan_outputs
from corelane.data.schema import Column, Schema
from corelane.data.stages.blocks import Block, FeatureSpan
from corelane.data.stages.categorical import FittedCategorical
from corelane.data.stages.column import shorten
from corelane.data.stages.date import FittedDate
from corelane.data.stages.image import FittedImage
from corelane.data.stages.numeric import FittedNumeric
from corelane.data.stages.protocol import FittedStage, Stage, TensorSpec
from corelane.data.stages.tensor import FittedTensor
from corelane.data.stages.tokens import FittedTokens
from corelane.data.target import TargetEncoder
from corelane.data.target_fitting import target_fitter

__all__ = ["FeatureSpan", "Pipeline", "TensorSpec"]

_VERSION = 2
_FITTED: dict[str, Callable[[Mapping[str, Any], tuple[Column, ...]], FittedStage]] = {
    "numeric": FittedNumeric.from_json,
    "categorical": FittedCategorical.from_json,
    "tensor": FittedTensor.from_json,
    "tokens": FittedTokens.from_json,
    "date": FittedDate.from_json,
    "image": FittedImage.from_json,
}


class UnfittedPipeline:
    """A schema and its stages before training data was seen. Frozen; `fit` leaves it as it is."""

    def __init__(self, schema: Schema, outputs: Mapping[str, tuple[Stage, ...]]) -> None:
        if not schema.targets:
            raise ConfigError(
                "a pipeline must have a target to learn, got a schema without one; name it in data.target"
            )
        self.schema = schema
        self.digest = _digest(
            {
                "version": _VERSION,
                "schema": schema.to_json(),
                "outputs": [[name, [stage.to_json() for stage in stages]] for name, stages in outputs.items()],
            }
        )
        self._outputs = outputs

    def fit(self, batches: Iterable[pa.RecordBatch]) -> Pipeline:
        """Fit every stage and the target in one pass over checked training rows, in bounded memory.

        Raises `DataError` when there are no rows, a numeric column has no value, or the target has one label only;
        `ConfigError` when its labels are not those of the declared task.
        """
        fitters = {name: [stage.fitter() for stage in stages] for name, stages in self._outputs.items()}
        target = target_fitter(self.schema)
        num_rows = 0
        for rows in batches:
            num_rows += rows.num_rows
            target.update(rows)
            for fitter in (fitter for block in fitters.values() for fitter in block):
                fitter.update(rows)
        if not num_rows:
            raise DataError("there must be at least one training row, got none; check the data and data.split")
        encoder = target.finish()
        blocks = tuple(
            Block(name, tuple(fitter.finish() for fitter in block_fitters)) for name, block_fitters in fitters.items()
        )
        return Pipeline(self.schema, blocks, encoder)


class Pipeline:
    """A fitted pipeline. Frozen, and safe to use from several threads at once.

    `outputs` gives each output's dtype and row shape, in the order the network takes them; `target` turns labels into
    class numbers and back; `digest` is the SHA-256 of everything `to_json` says.
    """

    def __init__(self, schema: Schema, blocks: tuple[Block, ...], target: TargetEncoder) -> None:
        self.schema = schema
        self.target = target
        self.outputs: dict[str, TensorSpec] = {block.name: block.spec for block in blocks}
        self._blocks = blocks
        self.digest = _digest(self.to_json())

    @property
    def feature_spans(self) -> tuple[FeatureSpan, ...]:
        """Which column lies where in the output "features"; empty when there is no such output."""
        return next((block.spans for block in self._blocks if block.name == "features"), ())

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The texts that each categorical column knows, by the column's name; another text is as good as unknown."""
        stages = [stage for block in self._blocks for stage in block.stages]
        return {stage.columns[0].name: stage.categories for stage in stages if isinstance(stage, FittedCategorical)}

    @classmethod
    def build(cls, schema: Schema, config: PipelineConfig) -> UnfittedPipeline:
        """The stages `config` asks for, for `schema`; fit the result to get a pipeline."""
        return UnfittedPipeline(schema, plan_outputs(schema, config))

    def with_target(self, target: TargetEncoder, schema: Schema | None = None) -> Pipeline:
        """The same stages for another target of the same columns; `schema` where it says another task."""
        return Pipeline(schema or self.schema, self._blocks, target)

    def transform(self, rows: pa.RecordBatch) -> dict[str, Array]:
        """The columns way: checked rows (`Schema.check`) to float32 arrays [n, *shape] by output name."""
        return {block.name: block.transform(rows) for block in self._blocks}

    def compile(self) -> CompiledPipeline:
        """The same pipeline for a few raw rows at a time, without the cost of Arrow."""
        return CompiledPipeline(self.schema, self._blocks, self.transform)

    def to_json(self) -> JsonObject:
        """The pipeline as JSON data (no code); floats survive exactly."""
        return {
            "version": _VERSION,
            "schema": self.schema.to_json(),
            "outputs": [
                {"name": block.name, "stages": [stage.to_json() for stage in block.stages]} for block in self._blocks
            ],
            "target": self.target.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pipeline:
        """The pipeline written by `to_json`. Raises `StateError` for an unknown version or a misfit."""
        if data.get("version") != _VERSION:
            raise StateError(
                f"the version of a stored pipeline must be {_VERSION}, got {data.get('version')!r}; "
                "use the version of Corelane that wrote it"
            )
        try:
            schema = Schema.from_json(data["schema"])
            blocks = tuple(_read_block(block, schema) for block in data["outputs"])
            target = TargetEncoder.from_json(data["target"])
        except (KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"a stored pipeline must have a schema, outputs and a target, got {shorten(data)}"
            ) from error
        read = [column.name for block in blocks for stage in block.stages for column in stage.columns]
        if sorted(read) != sorted(schema.names):
            raise StateError("the stages of a stored pipeline must read each column of its schema once, got others")
        if not schema.targets or target.columns != schema.target_names or not _fits(target.task, schema.task):
            raise StateError("the target of a stored pipeline must be its schema's, got another")
        return cls(schema, blocks, target)


def _fits(task: Task, stated: StatedTask) -> bool:
    return task in ("binary", "multi_class") if stated == "classification" else task == stated


def _read_block(data: Mapping[str, Any], schema: Schema) -> Block:
    stages = tuple(_read_stage(stage, schema) for stage in data["stages"])
    if not stages or (len(stages) > 1 and any(len(stage.shape) != 1 for stage in stages)):
        raise StateError("an output of a stored pipeline must be one stage or several vectors, got another mixture")
    return Block(str(data["name"]), stages)


def _read_stage(data: Mapping[str, Any], schema: Schema) -> FittedStage:
    kind = data.get("stage")
    if kind not in _FITTED:
        raise StateError(f"a stored stage must be one of {', '.join(_FITTED)}, got {shorten(kind)}")
    by_name = {column.name: column for column in schema.columns}
    columns = tuple(by_name[name] for name in data["columns"])
    if not columns or any(_stage_of(column) != kind for column in columns) or (kind != "numeric" and len(columns) > 1):
        raise StateError(
            f"a stored {kind} stage must read {kind} columns of its schema, got {shorten(data['columns'])}"
        )
    return _FITTED[kind](data, columns)


def _stage_of(column: Column) -> str:
    return column.kind if column.vocabulary is None else "tokens"


def _digest(data: JsonObject) -> str:
    """SHA-256 of the canonical JSON text."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
