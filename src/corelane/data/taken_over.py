"""A pipeline that was fitted on other data, taken over for new rows: what fine-tuning prepares its data with.

The stages stay as they were fitted, since the weights that are tuned were learned on what they give. The target is
kept where the new labels are among the old ones, and fitted anew where they are not. Used by `prepare.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa

from corelane.core.errors import ConfigError
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Schema
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
    """The fitted `pipeline` of a package, for new data. Frozen; `fit` leaves it as it is."""

    def __init__(self, pipeline: Pipeline) -> None:
        if not pipeline.schema.targets:
            raise ConfigError("the pipeline to take over must have a target, got one without; name another package")
        self.schema = pipeline.schema
        self.digest = hashlib.sha256(f"taken over {pipeline.digest}".encode()).hexdigest()
        self._pipeline = pipeline

    def fit(self, batches: Iterable[pa.RecordBatch]) -> Pipeline:
        """The pipeline with its own target, or with the target of the training rows where their labels are others.

        Raises `DataError` as fitting does: no rows, one label only.
        """
        target = target_fitter(self.schema)
        for rows in batches:
            target.update(rows)
        found = target.finish()
        if set(found.labels) <= set(self._pipeline.target.labels):
            return self._pipeline.with_target(self._pipeline.target.recounted(found))
        return self._pipeline.with_target(found)
