"""Fitting a category column: which texts get a slot, and what the unknown bucket holds."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.errors import StateError
from corelane.data.stages.categorical import CategoricalStage, FittedCategorical
from corelane.data.stages.column import Column
from tests.data.examples import batch

COLOUR = Column("colour", "categorical")


def fit(
    texts: list[str | None], column: Column = COLOUR, encoding: Any = "one_hot", most: int = 100
) -> FittedCategorical:
    fitter = CategoricalStage(column, encoding, most).fitter()
    for text in texts:
        fitter.update(batch({"colour": [text]}).cast(batch({"colour": ["x"]}).schema))
    return fitter.finish()


def test_one_hot() -> None:
    """Slot 0 is the bucket of the missing and the unseen; then one slot per text."""
    fitted = fit(["red", None, "blue", "red"])
    assert fitted.categories == ("blue", "red")
    assert fitted.shape == (3,)
    rows = fitted.transform(batch({"colour": ["red", "blue", "green", None]}))
    assert rows.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]]


def test_ordinal() -> None:
    """Slots evenly spaced from 0, the bucket, to 1, the last text; declared categories give the order."""
    column = Column("colour", "categorical", categories=("low", "middle", "high", "top"))
    fitted = fit(["high"], column, "ordinal")
    assert fitted.transform(batch({"colour": ["top", "low", None]})).tolist() == [[1.0], [0.25], [0.0]]


def test_rare_texts_share_the_bucket() -> None:
    """Of too many texts the most frequent keep a slot; ties are broken by the text, not by the order of rows."""
    texts: list[str | None] = ["d", "c", "b", "a", "d", "c"]
    assert fit(texts, most=3).categories == ("a", "c", "d")
    assert fit(texts[::-1], most=3).categories == ("a", "c", "d")
    assert fit(texts, most=3).transform(batch({"colour": ["b"]})).tolist() == [[1, 0, 0, 0]]


def test_nothing_seen() -> None:
    """A column that is missing in every training row is all bucket, and works."""
    fitted = fit([None, None])
    assert fitted.shape == (1,)
    assert fitted.transform(batch({"colour": ["a"]})).tolist() == [[1.0]]
    assert fit([None], encoding="ordinal").transform(batch({"colour": ["a"]})).tolist() == [[0.0]]


def test_json() -> None:
    """Texts and encoding come back; repeated texts, other encodings and other versions are refused."""
    stored = fit(["b", "a", "\u00e9\U0001f600"]).to_json()
    assert FittedCategorical.from_json(stored, (COLOUR,)).to_json() == stored
    for change in ({"version": 9}, {"encoding": "hash"}, {"categories": ["a", "a"]}, {"categories": [1]}):
        with pytest.raises(StateError):
            FittedCategorical.from_json(stored | change, (COLOUR,))


def test_few_rows() -> None:
    """Lists of texts take the short way, unseen and missing ones included; refused values do not."""
    fitted = fit(["red", "blue"], Column("colour", "categorical", categories=None))
    few = fitted.transform_few({"colour": ["red", None, "unseen", " blue "]}, 4)
    assert few is not None
    assert few.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]]
    for values in ([["red"]], [b"red"], ["x" * 2000], ["red", "blue"]):
        assert fitted.transform_few({"colour": values}, 1) is None
