"""Scaling of tensors: a vector's elements each for themselves, a larger tensor's all alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from corelane.core.errors import DataError, StateError
from corelane.data.stages.column import Column
from corelane.data.stages.tensor import FittedTensor, TensorStage
from tests.data.examples import batch, transformed


def fit(values: Any, scaling: Any = "standardise") -> FittedTensor:
    array = np.asarray(values, dtype=np.float32)
    fitter = TensorStage(Column("x", "tensor", shape=array.shape[1:], nullable=False), scaling).fitter()
    for row in array:
        fitter.update(batch({"x": row[None]}))
    return fitter.finish()


def test_a_vector_is_scaled_by_element() -> None:
    """Each element has its own mean and deviation over the rows."""
    fitted = fit([[1.0, 100.0], [3.0, 300.0]])
    assert transformed(fitted, batch({"x": np.array([[1.0, 300.0]], dtype=np.float32)})).tolist() == [[-1.0, 1.0]]
    assert fitted.shape == (2,)


def test_a_larger_tensor_is_scaled_as_a_whole() -> None:
    """One mean and deviation for all elements keeps the relation between them."""
    fitted = fit([[[0.0, 2.0]], [[0.0, 2.0]]])
    assert fitted.scaler.center.tolist() == [1.0]
    assert transformed(fitted, batch({"x": np.array([[[0.0, 2.0]]], dtype=np.float32)})).tolist() == [[[-1.0, 1.0]]]


def test_other_scalings() -> None:
    """normalise maps the training range to 0..1; none leaves the values alone."""
    rows = batch({"x": np.array([[5.0, 0.1]], dtype=np.float32)})
    assert transformed(fit([[0.0, 0.0], [10.0, 0.2]], "min_max"), rows)[0, 0] == 0.5
    assert transformed(fit([[0.0, 0.0]], "none"), rows).tolist() == [[5.0, float(np.float32(0.1))]]


def test_no_rows_cannot_be_fitted() -> None:
    """Without a row there is no mean."""
    with pytest.raises(DataError, match="x must be in at least one training row"):
        TensorStage(Column("x", "tensor", shape=(2,), nullable=False), "standardise").fitter().finish()


def test_json() -> None:
    """The scaling comes back exactly; one of another width is refused."""
    fitted = fit([[0.1, 1 / 3], [0.7, 5.0]])
    stored = fitted.to_json()
    assert FittedTensor.from_json(stored, fitted.columns).to_json() == stored
    for change in ({"version": 7}, {"center": [0.0]}, {"scale": [1.0, None]}):
        with pytest.raises(StateError):
            FittedTensor.from_json(stored | change, fitted.columns)
