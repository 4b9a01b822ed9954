"""Small real packages for the tests of serving: random networks in ONNX behind fitted pipelines, made without torch."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from corelane.core.types import Array
from corelane.data.config import PipelineConfig
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column, Schema
from corelane.model.description import Provenance
from corelane.model.golden import Golden
from corelane.model.package import ModelPackage, PackageContents, write_package
from corelane.model.skew import Tolerance

NUMBERS = tuple(f"x{index}" for index in range(4))


def mlp_graph(num_inputs: int, hidden: tuple[int, ...], num_outputs: int, *, name: str = "features") -> bytes:
    """An ONNX graph `name` float32 [n, num_inputs] -> `logits` [n, num_outputs] with fixed random weights."""
    random = np.random.default_rng(0)
    sizes = [num_inputs, *hidden, num_outputs]
    nodes, weights, value = [], [], name
    for layer, (size, next_size) in enumerate(itertools.pairwise(sizes)):
        weight = (random.standard_normal((next_size, size)) / np.sqrt(size)).astype(np.float32)
        weights += [
            numpy_helper.from_array(weight, f"w{layer}"),
            numpy_helper.from_array(np.zeros(next_size, np.float32), f"b{layer}"),
        ]
        last = layer == len(sizes) - 2
        output = "logits" if last else f"g{layer}"
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [output], transB=1))
        value = output
        if not last:
            nodes.append(helper.make_node("Relu", [value], [f"r{layer}"]))
            value = f"r{layer}"
    return _graph_bytes(nodes, weights, name, ["n", num_inputs], num_outputs)


def image_graph(shape: tuple[int, int, int], num_outputs: int, *, name: str = "image") -> bytes:
    """An ONNX graph that flattens images [n, c, h, w] into one linear layer."""
    size = int(np.prod(shape))
    weight = (np.random.default_rng(0).standard_normal((num_outputs, size)) / np.sqrt(size)).astype(np.float32)
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(num_outputs, np.float32), "b")]
    nodes = [
        helper.make_node("Flatten", [name], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
    ]
    return _graph_bytes(nodes, weights, name, ["n", *shape], num_outputs)


def _graph_bytes(
    nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], name: str, shape: list[str | int], num_outputs: int
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", num_outputs])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def publish(
    directory: Path, name: str, schema: Schema, rows: pa.RecordBatch, graph: bytes, golden: Golden | None = None
) -> Path:
    """Fit a pipeline for `schema` on `rows` and publish it with `graph` as the package `name`; returns its folder."""
    checked = schema.check(rows, needs_target=True).rows
    pipeline = Pipeline.build(schema, PipelineConfig()).fit([checked])
    contents = PackageContents(
        name=name,
        pipeline=pipeline,
        architecture={"net": "test"},
        weights={"w": np.zeros(1, np.float32)},
        graphs={"fp32": graph},
        tolerances={"fp32": Tolerance(1e-4, 1e-3)},
        metrics={},
        provenance=Provenance(
            corelane="0", torch="0", onnx="0", data_fingerprint={}, config_digest="", created="2026-01-01T00:00:00Z"
        ),
        golden=golden,
        calibration=None,
        holdout=None,
    )

    return write_package(directory, contents, gate=lambda _: None)


def numeric_package(
    directory: Path,
    name: str = "m",
    *,
    num_columns: int = 4,
    hidden: tuple[int, ...] = (8,),
    num_labels: int = 3,
    graph: bytes | None = None,
    golden: Golden | None = None,
) -> Path:
    """A classifier of `num_columns` numeric columns x0, x1, ... into the labels "0", "1", ..."""
    random = np.random.default_rng(1)
    names = [f"x{index}" for index in range(num_columns)]
    schema = Schema(
        tuple(Column(one, "numeric", nullable=index != 0) for index, one in enumerate(names)),
        (Column("y", "categorical", nullable=False),),
        "multi_class",
    )
    columns = [pa.array(random.standard_normal(60)) for _ in names]
    target = pa.array([str(index % num_labels) for index in range(60)])
    rows = pa.RecordBatch.from_arrays([*columns, target], names=[*names, "y"])
    return publish(directory, name, schema, rows, graph or mlp_graph(num_columns, hidden, num_labels), golden)


def told_package(directory: Path, told: int, name: str = "m", *, golden: Golden | None = None, width: int = 8) -> Path:
    """A classifier that answers the label `told` (0 to 9) whatever it is asked; `width` makes it larger."""
    graph = told_graph(4, told, 10, width)
    return numeric_package(directory, name, num_labels=10, graph=graph, golden=golden)


def told_graph(num_inputs: int, told: int, num_labels: int, width: int) -> bytes:
    """An ONNX graph whose largest logit is that of `told`."""
    bias = np.zeros(num_labels, np.float32)
    bias[told] = 9.0
    weights = [
        numpy_helper.from_array(np.random.default_rng(0).standard_normal((width, num_inputs)).astype(np.float32), "w0"),
        numpy_helper.from_array(np.zeros((num_labels, width), np.float32), "w1"),
        numpy_helper.from_array(bias, "b1"),
    ]
    nodes = [
        helper.make_node("Gemm", ["features", "w0"], ["g0"], transB=1),
        helper.make_node("Gemm", ["g0", "w1", "b1"], ["logits"], transB=1),
    ]
    return _graph_bytes(nodes, weights, "features", ["n", num_inputs], num_labels)


def golden_of(package: Path, *, is_wrong: bool = False) -> Golden:
    """Golden rows with the answers of `package`, or with another label than it answers."""
    with ModelPackage.load(package).predictor() as predictor:
        rows = pa.RecordBatch.from_arrays([pa.array([0.5, 1.0])] * 4, names=[f"x{index}" for index in range(4)])
        golden = Golden(rows, predictor.predict_table(rows))
    if not is_wrong:
        return golden
    probabilities = golden.expected["probabilities"][:, ::-1].copy()
    return Golden(rows, {**golden.expected, "probabilities": probabilities})


def labels_package(directory: Path, name: str = "labels") -> Path:
    """A network over two numbers that answers which of the labels wet and cold a row has."""
    values = np.random.default_rng(4).standard_normal((2, 60))
    targets = tuple(Column(one, "categorical", nullable=False) for one in ("wet", "cold"))
    schema = Schema((Column("x0", "numeric"), Column("x1", "numeric")), targets, "multi_label")
    columns = [*map(pa.array, values), *(pa.array(column > 0) for column in values)]
    rows = pa.RecordBatch.from_arrays(columns, names=["x0", "x1", "wet", "cold"])
    return publish(directory, name, schema, rows, mlp_graph(2, (8,), 2))


def mixed_package(directory: Path, name: str = "mixed") -> Path:
    """A regression over a number from 0 to 100, a number that may be missing, and a category."""
    random = np.random.default_rng(2)
    schema = Schema(
        (
            Column("age", "numeric", nullable=False, minimum=0.0, maximum=100.0),
            Column("weight", "numeric"),
            Column("colour", "categorical"),
        ),
        (Column("y", "numeric", nullable=False),),
        "regression",
    )
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(random.uniform(0, 100, 60)),
            pa.array([None if index % 7 == 0 else float(index) for index in range(60)]),
            pa.array([["red", "green", None][index % 3] for index in range(60)]),
            pa.array(random.standard_normal(60)),
        ],
        names=["age", "weight", "colour", "y"],
    )
    checked = schema.check(rows, needs_target=True).rows
    width = Pipeline.build(schema, PipelineConfig()).fit([checked]).outputs["features"].shape[0]
    return publish(directory, name, schema, rows, mlp_graph(width, (8,), 1))


def png(pixels: Array) -> bytes:
    """A grey or colour image uint8 [h, w, c] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "png")
    return file.getvalue()


def image_package(
    directory: Path, name: str = "picture", *, shape: tuple[int, int, int] = (4, 5, 1), encoded: bool = False
) -> Path:
    """A classifier of uint8 images [h, w, c], or of image files of that size, into "cat" and "dog"."""
    pixels = np.random.default_rng(3).integers(0, 256, (20, *shape), dtype=np.uint8)
    column = pa.array(map(png, pixels)) if encoded else pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    schema = Schema(
        (Column("image", "image", shape=shape, nullable=False, encoded=encoded),),
        (Column("y", "categorical", nullable=False),),
        "multi_class",
    )
    rows = pa.RecordBatch.from_arrays([column, pa.array(["cat", "dog"] * 10)], names=["image", "y"])
    height, width, channels = shape
    return publish(directory, name, schema, rows, image_graph((channels, height, width), 2))
