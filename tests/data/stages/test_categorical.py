"""Fitting a category column: which texts get a slot, and what the unknown bucket holds."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import StateError
from corelane.data.stages.categorical import CategoricalStage, FittedCategorical, counted_texts
from corelane.data.stages.column import Column
from tests.data.examples import batch, transformed

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
    rows = transformed(fitted, batch({"colour": ["red", "blue", "green", None]}))
    assert rows.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]]


def test_ordinal() -> None:
    """Slots evenly spaced from 0, the bucket, to 1, the last text; declared categories give the order."""
    column = Column("colour", "categorical", categories=("low", "middle", "high", "top"))
    fitted = fit(["high"], column, "ordinal")
    assert transformed(fitted, batch({"colour": ["top", "low", None]})).tolist() == [[1.0], [0.25], [0.0]]


@pytest.mark.parametrize(("index", "num_texts"), [(pa.int8(), 128), (pa.uint8(), 256), (pa.int16(), 1 << 15)])
def test_indices_that_just_hold_all_texts_have_room_for_nulls(index: pa.DataType, num_texts: int) -> None:
    """A dictionary as large as its type of indices allows is counted and found like plain texts, nulls too."""
    texts = [str(number) for number in range(num_texts)]
    places = pa.array([*range(num_texts), None, 0, None], index)
    encoded = pa.DictionaryArray.from_arrays(places, pa.array(texts))
    assert list(counted_texts(encoded)) == [("0", 2), *((text, 1) for text in texts[1:]), (None, 2)]
    fitted = FittedCategorical(COLOUR, tuple(texts), "ordinal", missing="1")
    plain, out = (np.empty((num_texts + 3, 1), dtype=np.float32) for _ in range(2))
    fitted.transform_into(pa.record_batch({"colour": encoded}), out)
    fitted.transform_into(pa.record_batch({"colour": encoded.dictionary_decode()}), plain)
    assert np.array_equal(out, plain)


def test_rare_texts_share_the_bucket() -> None:
    """Of too many texts the most frequent keep a slot; ties are broken by the text, not by the order of rows."""
    texts: list[str | None] = ["d", "c", "b", "a", "d", "c"]
    assert fit(texts, most=3).categories == ("a", "c", "d")
    assert fit(texts[::-1], most=3).categories == ("a", "c", "d")
    assert transformed(fit(texts, most=3), batch({"colour": ["b"]})).tolist() == [[1, 0, 0, 0]]


def test_nothing_seen() -> None:
    """A column that is missing in every training row is all bucket, and works."""
    fitted = fit([None, None])
    assert fitted.shape == (1,)
    assert transformed(fitted, batch({"colour": ["a"]})).tolist() == [[1.0]]
    assert transformed(fit([None], encoding="ordinal"), batch({"colour": ["a"]})).tolist() == [[0.0]]


def test_json() -> None:
    """Texts and encoding come back; repeated texts, other encodings and other versions are refused."""
    stored = fit(["b", "a", "\u00e9\U0001f600"]).to_json()
    assert FittedCategorical.from_json(stored, (COLOUR,)).to_json() == stored
    for change in (
        {"version": 9},
        {"encoding": "hash"},
        {"categories": ["a", "a"]},
        {"categories": [1]},
        {"num_buckets": 0},
        {"missing": 3},
    ):
        with pytest.raises(StateError):
            FittedCategorical.from_json(stored | change, (COLOUR,))


class TestHashing:
    def test_buckets_never_change(self) -> None:
        """CRC-32 modulo the number of buckets, after the bucket of the missing; the check value of the standard."""
        fitted = FittedCategorical(COLOUR, (), "hashing", num_buckets=1000)
        assert fitted.shape == (1001,)
        rows = transformed(fitted, batch({"colour": ["123456789", None, "never seen", "\u00e9"]}))
        assert rows.argmax(axis=1).tolist() == [
            1 + 0xCBF43926 % 1000,
            0,
            1 + crc32(b"never seen") % 1000,
            1 + crc32(b"\xc3\xa9") % 1000,
        ]
        assert (rows.sum(axis=1) == 1.0).all()

    def test_needs_no_counting(self) -> None:
        """What training saw does not matter: any rows give the same stage."""
        assert fit(["a"], encoding="hashing").to_json() == fit(["b", "c"], encoding="hashing").to_json()


@pytest.mark.parametrize("encoding", ["one_hot", "ordinal", "hashing"])
@pytest.mark.parametrize("missing", [None, "red"])
def test_dictionaries_are_read_as_they_are(encoding: Any, missing: str | None) -> None:
    """A dictionary-encoded column gives the same counts and bits as its texts, also where it knows more."""
    texts = pa.array(["red", None, "blue", "unseen", "red"])
    few = texts.dictionary_encode()
    many = pa.DictionaryArray.from_arrays(few.indices, pa.concat_arrays([few.dictionary, pa.array(list("abcdefgh"))]))
    fitted = FittedCategorical(COLOUR, ("blue", "red"), encoding, missing=missing)
    expected = transformed(fitted, batch({"colour": texts})).tobytes()
    for column in (few, many):
        assert transformed(fitted, batch({"colour": column})).tobytes() == expected
        fitter = CategoricalStage(COLOUR, "one_hot", 100).fitter()
        fitter.update(batch({"colour": column}))
        assert fitter.finish().categories == ("blue", "red", "unseen")


class TestMissing:
    def fit(self, imputation: Any, texts: list[str | None], **options: Any) -> FittedCategorical:
        fitter = CategoricalStage(COLOUR, "one_hot", 100, imputation=imputation, **options).fitter()
        fitter.update(batch({"colour": pa.array(texts, pa.string())}))
        return fitter.finish()

    def test_may_stand_for_the_most_frequent_text(self) -> None:
        """Ties go to the first text; a column without any keeps the bucket."""
        fitted = self.fit("mode", ["b", "a", None, "b"])
        assert fitted.missing == "b"
        assert transformed(fitted, batch({"colour": [None, "c"]})).tolist() == [[0, 0, 1], [1, 0, 0]]
        assert self.fit("mode", [None]).missing is None

    def test_may_stand_for_a_text_of_the_users(self) -> None:
        """Which has a slot of its own where training rows were missing."""
        fitted = self.fit("constant", ["b", None], fill_text="none")
        assert fitted.categories == ("b", "none")
        few = fitted.transform_few({"colour": [None, "b"]}, 2)
        assert few is not None
        assert few.tolist() == [[0, 0, 1], [0, 1, 0]]


def test_few_rows() -> None:
    """Lists of texts take the short way, unseen and missing ones included; refused values do not."""
    fitted = fit(["red", "blue"], Column("colour", "categorical", categories=None))
    few = fitted.transform_few({"colour": ["red", None, "unseen", " blue "]}, 4)
    assert few is not None
    assert few.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]]
    for values in ([["red"]], [b"red"], ["x" * 2000], ["red", "blue"]):
        assert fitted.transform_few({"colour": values}, 1) is None
