"""Tensors and nested lists to fixed-shape float32, with a reason for each row of another shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.data.stages.cast_tensor import cast_tensor, tensor_array
from corelane.data.stages.column import Column

X = Column("x", "tensor", shape=(2, 2), nullable=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint8])
def test_every_number_type(dtype: Any) -> None:
    """Tensors of any number type become float32 of the same values."""
    values = np.arange(12).reshape(3, 2, 2).astype(dtype)
    cast = cast_tensor(X, tensor_array(values))
    assert cast.bad is None
    assert cast.values.type == pa.fixed_shape_tensor(pa.float32(), [2, 2])
    assert cast.values.to_numpy_ndarray().tolist() == values.tolist()


@pytest.mark.parametrize("kind", [pa.list_(pa.list_(pa.float64())), pa.large_list(pa.list_(pa.int8(), 2)), None])
def test_nested_lists(kind: pa.DataType | None) -> None:
    """Lists of any Arrow sort are taken when their lengths fit."""
    cast = cast_tensor(X, pa.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], kind))
    assert cast.bad is None
    assert cast.values.to_numpy_ndarray().tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_rows_of_another_shape_are_refused_alone() -> None:
    """Wrong lengths at any depth, missing rows and missing or infinite elements each refuse their own row."""
    rows = [
        [[1.0, 2.0], [3.0, 4.0]],
        [[1.0, 2.0]],
        [[1.0, 2.0], [3.0]],
        None,
        [[1.0, None], [3.0, 4.0]],
        [[1.0, float("inf")], [3.0, 4.0]],
        [[1e39, 0.0], [3.0, 4.0]],
        [None, [3.0, 4.0]],
        [[9.0, 8.0], [7.0, 6.0]],
    ]
    cast = cast_tensor(X, pa.array(rows))
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True, True, True, True, True, True, True, False]
    codes = [cast.explain(row).code for row in range(1, 8)]
    assert codes == ["wrong_shape", "wrong_shape", "missing", "not_finite", "not_finite", "not_finite", "wrong_shape"]
    assert cast.explain(1).reason == "x must be numbers of shape [2, 2], got shape [1, 2]"
    good = cast.values.filter(pa.array(~cast.bad)).to_numpy_ndarray()
    assert good.tolist() == [rows[0], rows[-1]]


@pytest.mark.parametrize(
    "raw",
    [tensor_array(np.zeros((2, 4))), pa.array([1.0, 2.0]), pa.array(["a", "b"]), pa.array([[["a", "b"]] * 2] * 2)],
)
def test_columns_of_another_sort(raw: pa.Array) -> None:
    """A tensor of another shape, numbers, texts and lists of texts are refused row by row."""
    cast = cast_tensor(X, raw)
    assert cast.bad is not None
    assert cast.bad.all()
    assert cast.explain(0).code == "wrong_shape"


def test_slices_nulls_and_single_rows() -> None:
    """Offsets, null rows and an axis of length one do not shift a value."""
    values = np.arange(20.0).reshape(5, 2, 2)
    part = cast_tensor(X, tensor_array(values)[2:4])
    assert part.values.to_numpy_ndarray().tolist() == values[2:4].tolist()
    storage = pa.array([[1.0, 2.0, 3.0, 4.0], None], pa.list_(pa.float64(), 4))
    with_null = cast_tensor(X, pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), [2, 2]), storage))
    assert with_null.bad is not None
    assert with_null.bad.tolist() == [False, True]
    assert with_null.explain(1).code == "missing"
    assert cast_tensor(X, tensor_array(values[0][None])).values.to_numpy_ndarray().tolist() == [values[0].tolist()]


def test_no_rows() -> None:
    """Empty columns of lists and of tensors keep the type."""
    for raw in (tensor_array(np.zeros((0, 2, 2))), pa.array([], pa.list_(pa.list_(pa.float64())))):
        assert cast_tensor(X, raw).values.type == pa.fixed_shape_tensor(pa.float32(), [2, 2])
        assert len(cast_tensor(X, raw).values) == 0
