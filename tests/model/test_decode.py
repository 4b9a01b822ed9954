"""`model.decode`: from logits to labels, probabilities and values."""

from __future__ import annotations

import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from corelane.core.errors import RequestError
from corelane.data.target import TargetEncoder
from corelane.model import decode
from corelane.model.decode import MANY_ROWS, decoder_of

WORDS = TargetEncoder("multi_class", ("y",), labels=("cat", "dog", "eel"))
NUMBERS = TargetEncoder("multi_class", ("y",), labels=("0", "5", "10"))
TWO = TargetEncoder("binary", ("y",), labels=("no", "yes"))
SEVERAL = TargetEncoder("multi_label", ("p", "q", "r"), labels=("p", "q", "r"))

logits_of_rows = arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.just(3)),
    elements=st.floats(-(2.0**99), 2.0**99, width=32),
)


@given(logits_of_rows)
def test_probabilities_are_the_softmax(logits: np.ndarray) -> None:
    """float32 [n, k] within 1e-6 of the exact softmax, however large the logits; the label is the likeliest class."""
    answers = decoder_of(WORDS).decode({"logits": logits})
    wide = logits.astype(np.float64)
    exact = np.exp(wide - wide.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    assert (answers["probabilities"].dtype, answers["probabilities"].shape) == (np.float32, logits.shape)
    np.testing.assert_allclose(answers["probabilities"], exact, atol=1e-6)
    assert answers["label"].tolist() == [WORDS.labels[index] for index in logits.argmax(axis=1)]


def test_one_row_is_decoded_like_many() -> None:
    """The short way for one row gives what the way for many rows gives, and leaves the logits alone."""
    logits = np.random.default_rng(0).normal(0, 20, (50, 3)).astype(np.float32)
    before = logits.copy()
    decoder = decoder_of(WORDS)
    many = decoder.decode({"logits": logits})
    for index in range(50):
        one = decoder.decode({"logits": logits[index : index + 1]})
        assert one["label"][0] == many["label"][index]
        np.testing.assert_allclose(one["probabilities"][0], many["probabilities"][index], rtol=1e-6)
    np.testing.assert_array_equal(logits, before)


def test_many_rows_are_decoded_like_few() -> None:
    """Class by class instead of row by row, to the last bits; however large a logit is."""
    logits = (np.random.default_rng(0).normal(size=(2 * MANY_ROWS, 3)) * 50).astype(np.float32)
    many = decoder_of(WORDS).decode({"logits": logits})
    few = [decoder_of(WORDS).decode({"logits": logits[at : at + 8]}) for at in range(0, len(logits), 8)]
    assert many["label"].tolist() == [label for part in few for label in part["label"]]
    np.testing.assert_allclose(
        many["probabilities"], np.concatenate([part["probabilities"] for part in few]), rtol=1e-6
    )
    assert many["probabilities"].flags.c_contiguous


def test_whole_number_labels_are_int64() -> None:
    """Labels that were numbers come back as numbers, in the encoder's order."""
    label = decoder_of(NUMBERS).decode({"logits": np.array([[0, 0, 9], [9, 0, 0]], dtype=np.float32)})["label"]
    assert label.dtype == np.int64
    assert label.tolist() == [10, 0]


@given(logits_of_rows.filter(lambda rows: len(rows) > 0))
def test_two_labels_are_the_logistic_function(logits: np.ndarray) -> None:
    """Of one output: both probabilities, however large the logit; the positive label above a half."""
    answers = decoder_of(TWO).decode({"logits": logits[:, :1]})
    wide = np.clip(logits[:, 0].astype(np.float64), -700, 700)
    np.testing.assert_allclose(answers["probabilities"][:, 1], 1 / (1 + np.exp(-wide)), atol=1e-6)
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1.0, atol=1e-6)
    assert answers["label"].tolist() == ["yes" if value > 0 else "no" for value in wide]


@given(logits_of_rows)
def test_several_labels_are_decided_one_by_one(logits: np.ndarray) -> None:
    """The logistic function of each output as float32, and whether it is above a half."""
    answers = decoder_of(SEVERAL).decode({"logits": logits})
    exact = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))
    assert (answers["labels"].dtype, answers["probabilities"].dtype) == (np.bool_, np.float32)
    np.testing.assert_allclose(answers["probabilities"], exact, atol=1e-6)
    np.testing.assert_array_equal(answers["labels"], logits > 0)


def test_several_labels_as_records_and_columns() -> None:
    """The names of those that a row has; a column of flags for each in a table."""
    decoder = decoder_of(SEVERAL)
    answers = decoder.decode({"logits": np.array([[9, -9, 9], [-9, -9, -9]], dtype=np.float32)})
    assert [record["labels"] for record in decoder.records(answers)] == [["p", "r"], []]
    assert list(decoder.records(answers)[0]["probabilities"]) == ["p", "q", "r"]
    flat = decoder.flat(answers)
    assert list(flat) == [*(f"label.{name}" for name in "pqr"), *(f"probability.{name}" for name in "pqr")]
    assert flat["label.r"].tolist() == [True, False]


def test_values_are_in_the_targets_unit() -> None:
    """Regression undoes the standardising of the target, in float64."""
    encoder = TargetEncoder("regression", ("y",), mean=50_000.0, std=10_000.0)
    value = decoder_of(encoder).decode({"logits": np.array([[0.0], [-1.5]], dtype=np.float32)})["value"]
    assert value.dtype == np.float64
    assert value.tolist() == [50_000.0, 35_000.0]


@pytest.mark.parametrize("encoder", [WORDS, TWO, SEVERAL, TargetEncoder("regression", ("y",))])
def test_one_row_costs_microseconds(encoder: TargetEncoder) -> None:
    """One row takes 2 us where it was measured; 50 us fails only if a slow path has crept in."""
    logits = np.ones((1, encoder.num_outputs), dtype=np.float32)
    decode = decoder_of(encoder).decode
    assert min(timeit.repeat(lambda: decode({"logits": logits}), number=200, repeat=20)) / 200 < 50e-6


def test_tensors_of_unequal_shapes_become_nested_lists() -> None:
    """Row by row what NumPy's lists would be, empty rows and lists too."""
    shapes = [(2, 3), (0, 3), (1, 0), (3, 1)]
    ragged = np.empty(len(shapes), dtype=object)
    for index, shape in enumerate(shapes):
        ragged[index] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    column = decoder_of(None).flat({"y": ragged})["y"]
    assert column.to_pylist() == [row.tolist() for row in ragged]
    assert column.type == decoder_of(None).flat({"y": np.zeros((4, 2, 3), dtype=np.float32)})["y"].type
    plain = np.arange(24).reshape(2, 3, 4)
    assert decoder_of(None).flat({"y": plain})["y"].to_pylist() == plain.tolist()
    assert decoder_of(None).flat({"y": plain[:, 0, 0]})["y"].to_pylist() == [0, 12]


def test_a_column_of_lists_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow counts its elements in 32 bits: more are refused instead of wrapped around."""
    monkeypatch.setattr(decode, "MOST_ELEMENTS", 23)
    with pytest.raises(RequestError, match="at most 23 numbers, got 24"):
        decoder_of(None).flat({"y": np.zeros((2, 3, 4))})
