"""A pipeline that was fitted on other data, taken over for new rows: what fine-tuning prepares its data with.

The stages stay as they were fitted, since the weights that are tuned were learned on what they give. The target is
kept where the new labels are among the old ones, and fitted anew where they are not. Used by `prepare.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from corelane.core.errors import ConfigError
from corelane.core.types import StatedTask
from corelane.data.config import DataConfig, PipelineConfig
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Schema
from corelane.data.stages.cast_text import canonical_text
from corelane.data.target import TargetEncoder
from corelane.data.target_fitting import target_fitter


class Fittable(Protocol):
    """What becomes a pipeline when it has seen the training rows. `digest` says everything that decides how."""

    @property
    def schema(self) -> Schema:
        """What the rows must keep to."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the result, but the rows."""
        ...

    def fit(self, batches: Iterable[pa.RecordBatch]) -> Pipeline:
        """The pipeline, after one pass over the checked training rows."""
        ...


class TakenOver:
    """The fitted `pipeline` of a package, for new data. Frozen; `fit` leaves it as it is.

    Raises `ConfigError` where `data` or `columns` ask for another target or other stages than the pipeline's.
    """

    def __init__(self, pipeline: Pipeline, data: DataConfig, columns: PipelineConfig) -> None:
        if not pipeline.schema.targets:
            raise ConfigError("the pipeline to take over must have a target, got one without; name another package")
        _refuse_others(pipeline, data, columns)
        task, positive = _stated_task(pipeline, data), _text(data.positive)
        self.schema = replace(pipeline.schema, task=task, positive=positive)
        self._pipeline = pipeline
        self._task = data.task
        uncounted = pipeline.with_target(pipeline.target.recounted(_NOTHING_FOUND))
        asked = [uncounted.digest, task, data.task, positive]  # not the counts: those of a run that goes on are its own
        self.digest = hashlib.sha256(json.dumps(["taken over", asked]).encode()).hexdigest()

    def fit(self, batches: Iterable[pa.RecordBatch]) -> Pipeline:
        """The pipeline with its own target, or with the target of the training rows where their labels are others.

        Raises `DataError` as fitting does: no rows, one label only; but a column of the target may be the same in all
        rows. `ConfigError` where that target is not the one that is asked for.
        """
        target = target_fitter(self.schema, is_known=True)
        for rows in batches:
            target.update(rows)
        found, own = target.finish(), self._pipeline.target
        if not set(found.labels) <= set(own.labels):
            return self._pipeline.with_target(found, self.schema)
        self._check(own)
        return self._pipeline.with_target(own.recounted(found))

    def _check(self, own: TargetEncoder) -> None:
        """The labels are the package's: so must be what is said of them."""
        if self._task not in ("auto", "classification", own.task):
            raise ConfigError(
                f"data.task must be left out to fine-tune, or be the package's, {own.task}, got {self._task}"
            )
        positive = self.schema.positive
        if positive is not None and positive != own.labels[-1]:
            raise ConfigError(
                f"data.positive must be left out to fine-tune, or be the package's, {own.labels[-1]!r}, "
                f"got {positive!r}"
            )


_NOTHING_FOUND = TargetEncoder("regression", ())
_CLASSES = ("classification", "binary", "multi_class")


def _refuse_others(pipeline: Pipeline, data: DataConfig, columns: PipelineConfig) -> None:
    schema = pipeline.schema
    for what, asked, own in (
        ("target", data.targets, schema.target_names),
        ("separator", data.separator, schema.separator),
    ):
        if asked != own:
            raise ConfigError(f"data.{what} must be the package's to fine-tune it, {_shown(own)}, got {_shown(asked)}")
    left_out = sorted(set(data.exclude) & set(schema.names))
    if left_out:
        raise ConfigError(f"data.exclude must not name what the package reads to fine-tune it, got {left_out[0]!r}")
    if columns != PipelineConfig():
        raise ConfigError(
            "pipeline must be left out to fine-tune a package, whose pipeline is taken over, got "
            f"{', '.join(sorted(columns.model_fields_set))}; remove the pipeline section"
        )


def _stated_task(pipeline: Pipeline, data: DataConfig) -> StatedTask:
    """The task to fit another target for; classes may be other classes, and nothing else another task."""
    own = pipeline.schema.task
    if data.task == "auto":
        return "classification" if own == "binary" else own  # which may become more than two
    if data.task != own and not (data.task in _CLASSES and own in _CLASSES):
        raise ConfigError(f"data.task must be left out to fine-tune, or be the package's, {own}, got {data.task}")
    return data.task


def _text(positive: str | bool | int | None) -> str | None:
    return None if positive is None else canonical_text(positive) or str(positive)


def _shown(names: tuple[str, ...] | str | None) -> str:
    return ", ".join(names) if isinstance(names, tuple) else repr(names)
