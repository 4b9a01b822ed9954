"""Small fitted pipelines and packages of every kind, made by the real classes, for the tests of this room."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import nn

from corelane.data.batch import Fingerprint
from corelane.data.config import PipelineConfig
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column, Schema
from corelane.model.config import ModelConfig
from corelane.model.export import package_contents
from corelane.model.nets.build import build
from corelane.model.package import PackageContents, write_package

CREATED_S = 1_750_000_000.0


@dataclass(frozen=True, eq=False)
class Example:
    """A fitted pipeline, the raw rows it was fitted on, and their checked form with the target."""

    pipeline: Pipeline
    raw: pa.RecordBatch
    checked: pa.RecordBatch

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint("content", "0" * 64)

    @property
    def calibration(self) -> pa.Table:
        return pa.Table.from_batches([self.checked])

    @property
    def holdout(self) -> pa.Table:
        return self.calibration.slice(0, 20)

    @property
    def gate(self) -> pa.Table:
        return self.calibration

    def module(self, net: str = "mlp", seed: int = 0) -> nn.Module:
        config = ModelConfig(net=net)
        return build(config, self.pipeline.outputs, self.pipeline.target.num_outputs, seed=seed)


def example(schema: Schema, raw: pa.RecordBatch) -> Example:
    checked = schema.check(raw, needs_target=True)
    assert not checked.rejects, checked.rejects
    return Example(Pipeline.build(schema, PipelineConfig()).fit([checked.rows]), raw, checked.rows)


@cache
def mixed(num_rows: int = 60) -> Example:
    """Numbers with gaps, an open category with gaps, a closed one, and three labels."""
    random = np.random.default_rng(1)
    size = np.where(random.random(num_rows) < 0.1, np.nan, random.normal(40, 5, num_rows))
    island = [None if value == 3 else "abc"[value] for value in random.integers(0, 4, num_rows)]
    raw = pa.RecordBatch.from_pydict(
        {
            "size": pa.array(size, from_pandas=True),
            "island": pa.array(island),
            "sex": pa.array(["m" if value else "f" for value in random.integers(0, 2, num_rows)]),
            "species": pa.array([("x", "y", "z")[value] for value in np.arange(num_rows) % 3]),
        }
    )
    columns = (
        Column("size", "numeric"),
        Column("island", "categorical"),
        Column("sex", "categorical", nullable=False, categories=("f", "m")),
    )
    return example(Schema(columns, (Column("species", "categorical", nullable=False),), "classification"), raw)


@cache
def matrix(width: int = 32, num_labels: int = 10, num_rows: int = 200) -> Example:
    """`width` numeric columns without gaps and whole-number labels."""
    random = np.random.default_rng(2)
    values = random.normal(3, 2, (num_rows, width))
    data = {f"x{index}": pa.array(values[:, index]) for index in range(width)}
    raw = pa.RecordBatch.from_pydict({**data, "y": pa.array(np.arange(num_rows) % num_labels)})
    columns = tuple(Column(name, "numeric", nullable=False) for name in data)
    return example(Schema(columns, (Column("y", "categorical", nullable=False),), "classification"), raw)


@cache
def regression(num_rows: int = 50) -> Example:
    """One number in, one number in thousands out."""
    x = np.linspace(-3, 3, num_rows)
    raw = pa.RecordBatch.from_pydict({"x": pa.array(x), "price": pa.array(5e4 + 2e4 * x)})
    return example(Schema((Column("x", "numeric"),), (Column("price", "numeric", nullable=False),), "regression"), raw)


@cache
def multi_label(num_rows: int = 60) -> Example:
    """Two numbers, one with gaps, and three labels of which a row may have any."""
    random = np.random.default_rng(4)
    values = random.normal(size=(num_rows, 2))
    data = {
        "x": pa.array(values[:, 0]),
        "y": pa.array(np.where(values[:, 1] > 1.5, np.nan, values[:, 1]), from_pandas=True),
    }
    labels = {name: pa.array(values[:, 0] > cut) for name, cut in (("warm", 0.0), ("hot", 1.0), ("cold", -1.0))}
    raw = pa.RecordBatch.from_pydict({**data, **labels})
    targets = tuple(Column(name, "categorical", nullable=False) for name in labels)
    return example(Schema((Column("x", "numeric"), Column("y", "numeric")), targets, "multi_label"), raw)


@cache
def images(side: int = 8, num_rows: int = 24) -> Example:
    """Grey images as arrays, and two labels."""
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (num_rows, side, side, 1), dtype=np.uint8)
    raw = pa.RecordBatch.from_arrays(
        [pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), pa.array(["cat", "dog"] * (num_rows // 2))],
        names=["image", "label"],
    )
    columns = (Column("image", "image", shape=(side, side, 1), nullable=False),)
    return example(Schema(columns, (Column("label", "categorical", nullable=False),), "classification"), raw)


def contents(source: Example, net: str = "mlp", *, name: str = "sample", include_rows: bool = True) -> PackageContents:
    return package_contents(
        source.module(net),
        source,
        name=name,
        config=ModelConfig(net=net),
        metrics={"accuracy": 0.5},
        config_digest="c" * 64,
        created_s=CREATED_S,
        include_rows=include_rows,
    )


def publish(directory: Path, source: Example, net: str = "mlp", **options: bool) -> Path:
    return write_package(directory, contents(source, net, **options), gate=lambda path: None)
