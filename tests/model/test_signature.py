"""`model.signature`: raw schema columns as Open Inference Protocol tensors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from corelane.data.schema import Column, Schema
from corelane.model.signature import Signature, TensorMeta
from tests.model import examples


def test_each_column_is_one_tensor() -> None:
    """Numbers are FP64, categories BYTES, both [-1]; labels of text are BYTES beside their probabilities."""
    signature = Signature.of(examples.mixed().pipeline)
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in signature.inputs] == [
        ("size", "FP64", (-1,)),
        ("island", "BYTES", (-1,)),
        ("sex", "BYTES", (-1,)),
    ]
    assert signature.outputs == (TensorMeta("label", "BYTES", (-1,)), TensorMeta("probabilities", "FP32", (-1, 3)))
    assert signature.matrix is None


def test_numeric_columns_may_be_one_matrix() -> None:
    """All numeric: one tensor `features` [-1, d] may stand for the columns; whole-number labels are INT64."""
    signature = Signature.of(examples.matrix(4, 2).pipeline)
    assert signature.matrix == TensorMeta("features", "FP64", (-1, 4))
    assert signature.outputs[0] == TensorMeta("label", "INT64", (-1,))


def test_regression_answers_a_value() -> None:
    """A regression has the one output `value`."""
    assert Signature.of(examples.regression().pipeline).outputs == (TensorMeta("value", "FP64", (-1,)),)


def test_several_labels_are_flags() -> None:
    """A multi-label network answers a flag and a probability for each label."""
    assert Signature.of(examples.multi_label().pipeline).outputs == (
        TensorMeta("labels", "BOOL", (-1, 3)),
        TensorMeta("probabilities", "FP32", (-1, 3)),
    )


def test_images_and_tensors_have_their_shapes() -> None:
    """Image arrays are UINT8 [-1, h, w, c]; tensors FP32 [-1, *shape]."""
    assert Signature.of(examples.images().pipeline).inputs == (TensorMeta("image", "UINT8", (-1, 8, 8, 1)),)
    values = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)
    raw = pa.RecordBatch.from_arrays(
        [pa.FixedShapeTensorArray.from_numpy_ndarray(values), pa.array(["a", "b"] * 3)], names=["t", "y"]
    )
    columns = (Column("t", "tensor", shape=(2, 3), nullable=False),)
    schema = Schema(columns, (Column("y", "categorical", nullable=False),), "classification")
    assert Signature.of(examples.example(schema, raw).pipeline).inputs == (TensorMeta("t", "FP32", (-1, 2, 3)),)
