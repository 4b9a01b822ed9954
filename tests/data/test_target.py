"""Labels to class numbers, values to standardised numbers, and what both refuse."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError, StateError
from corelane.core.types import Array, StatedTask
from corelane.data.schema import Column, Schema
from corelane.data.target import MAX_LABELS, TargetEncoder
from corelane.data.target_fitting import target_fitter

X = Column("x", "numeric")


def rows(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})


def encoder(task: StatedTask, values: Any, positive: str | None = None, **column: Any) -> TargetEncoder:
    kind: Any = "numeric" if task == "regression" else "categorical"
    fitter = target_fitter(Schema((X,), (Column("y", kind, nullable=False, **column),), task, positive))
    for value in values:
        fitter.update(rows(y=[value]))
    return fitter.finish()


def joined(texts: list[str | None], separator: str = ";") -> TargetEncoder:
    fitter = target_fitter(Schema((X,), (Column("y", "categorical"),), "multi_label", separator=separator))
    fitter.update(rows(y=pa.array(texts, pa.string())))
    return fitter.finish()


def flags(**columns: list[str]) -> TargetEncoder:
    targets = tuple(Column(name, "categorical", nullable=False) for name in columns)
    fitter = target_fitter(Schema((X,), targets, "multi_label"))
    fitter.update(rows(**columns))
    return fitter.finish()


class TestClassification:
    def test_labels_are_sorted_and_unseen_ones_marked(self) -> None:
        """Texts are sorted; a label the training part did not have is -1, and so is a missing one."""
        target = encoder("classification", ["b", "c", "a", "b"])
        assert (target.task, target.labels, target.counts, target.num_rows) == (
            "multi_class",
            ("a", "b", "c"),
            (1, 2, 1),
            4,
        )
        assert target.num_outputs == 3
        codes = target.encode(rows(y=["b", "a", "d", None]))
        assert codes.tolist() == [1, 0, -1, -1]
        assert (codes.dtype, target.dtype, target.shape) == (np.int64, np.int64, ())
        assert target.is_known(codes).tolist() == [True, True, False, False]
        assert target.label_array().tolist() == ["a", "b", "c"]

    def test_two_labels_can_be_two_classes(self) -> None:
        """multi_class keeps an output for each of two labels."""
        target = encoder("multi_class", ["b", "a"])
        assert (target.task, target.num_outputs) == ("multi_class", 2)

    def test_whole_numbers_keep_their_type_and_order(self) -> None:
        """Labels 2, 10 and -1 are sorted as numbers and answered as numbers."""
        target = encoder("classification", ["10", "2", "-1"])
        assert target.labels == ("-1", "2", "10")
        assert target.label_type == "int"
        assert target.label_array().dtype == np.int64
        assert target.label_array().tolist() == [-1, 2, 10]

    @pytest.mark.parametrize("labels", [["01", "2"], ["1.0", "2"], ["-0", "1"], ["1" * 30, "2"], ["true", "false"]])
    def test_what_a_number_would_not_write_back_stays_text(self, labels: list[str]) -> None:
        """A postcode 01 must not come back as 1."""
        target = encoder("classification", labels)
        assert target.label_type == "string"
        assert set(target.label_array()) == set(labels)

    def test_declared_order(self) -> None:
        """Declared categories give the order; what training did not see gets no output."""
        target = encoder("classification", ["low", "high"], categories=("low", "middle", "high"))
        assert target.labels == ("low", "high")

    def test_refuses_one_label_and_too_many(self) -> None:
        """One class teaches nothing; tens of thousands are no classification."""
        with pytest.raises(DataError, match="at least two different labels among the training rows, got only 'a'"):
            encoder("classification", ["a", "a"])
        fitter = target_fitter(Schema((X,), (Column("y", "categorical"),), "classification"))
        with pytest.raises(DataError, match=f"at most {MAX_LABELS} labels"):
            fitter.update(rows(y=[str(index) for index in range(MAX_LABELS + 1)]))


class TestBinary:
    def test_the_last_label_is_positive(self) -> None:
        """Two labels take one output; of no and yes, 0 and 1, false and true the second is positive."""
        for labels in (["no", "yes"], ["0", "1"], ["false", "true"]):
            target = encoder("classification", labels[::-1])
            assert (target.task, target.labels, target.num_outputs) == ("binary", tuple(labels), 1)
            codes = target.encode(rows(y=[*labels, "other"]))
            assert (codes.dtype, codes.tolist()) == (np.float32, [0.0, 1.0, -1.0])
            assert target.is_known(codes).tolist() == [True, True, False]

    def test_the_positive_label_can_be_named(self) -> None:
        """It comes last, its counts with it; a label that there is not is refused with those that there are."""
        target = encoder("binary", ["good", "bad", "good"], positive="bad")
        assert (target.labels, target.counts) == (("good", "bad"), (2, 1))
        with pytest.raises(ConfigError, match="must be a label of y, 'bad' or 'good', got 'ugly'"):
            encoder("binary", ["good", "bad"], positive="ugly")

    @pytest.mark.parametrize(("task", "positive"), [("binary", None), ("classification", "a")])
    def test_three_labels_are_refused(self, task: StatedTask, positive: str | None) -> None:
        """Where two are declared, in one way or the other."""
        with pytest.raises(ConfigError, match=r"must have two labels where .* got 3: 'a', 'b', 'c'"):
            encoder(task, ["a", "b", "c"], positive=positive)


class TestMultiLabel:
    def test_a_column_a_label(self) -> None:
        """Whatever way a column says it: 1, true, and what pandas makes of a column with gaps."""
        target = flags(wet=["1", "0", "true", "0.0"], cold=["false", "1.0", "0", "0"])
        assert (target.task, target.labels, target.counts, target.num_rows) == (
            "multi_label",
            ("wet", "cold"),
            (2, 1),
            4,
        )
        codes = target.encode(rows(wet=["1", "false"], cold=["1.0", "1"]))
        assert (codes.dtype, codes.tolist(), target.shape) == (np.float32, [[1, 1], [0, 1]], (2,))
        assert target.is_known(codes).all()

    def test_a_label_that_says_nothing_is_refused(self) -> None:
        """One that no training row has, or that all have."""
        for cells, words in ((["0", "0"], "got none that has it"), (["1", "1"], "got none without it")):
            with pytest.raises(DataError, match=f"label cold must be in some training rows and absent.*{words}"):
                flags(wet=["1", "0"], cold=cells)

    def test_labels_in_one_column(self) -> None:
        """They are taken apart at the separator; spaces, repeats and empty pieces do not count, nor an empty cell."""
        target = joined(["b; a", "a;;a", None, "a"])
        assert (target.labels, target.counts, target.num_rows, target.name) == (("a", "b"), (3, 1), 4, "y")
        codes = target.encode(rows(y=pa.array(["b", None, "a ;c", ";"], pa.string()).dictionary_encode()))
        assert codes.tolist() == [[0, 1], [0, 0], [-1, -1], [0, 0]]
        assert target.is_known(codes).tolist() == [True, True, False, True]

    def test_no_label_at_all_is_refused(self) -> None:
        """There is nothing to learn from empty cells."""
        with pytest.raises(DataError, match="must have a label in at least one training row"):
            joined([None, ";"])


class TestRegression:
    def test_standardises(self) -> None:
        """float32 with the mean and the deviation of the training part."""
        target = encoder("regression", [1.0, 3.0])
        assert (target.mean, target.std, target.num_outputs) == (2.0, 1.0, 1)
        encoded: Array = target.encode(rows(y=[1.0, 2.0, 1e300]))
        assert target.is_known(encoded).all()
        assert encoded.dtype == np.float32
        assert encoded.tolist() == [-1.0, 0.0, float(np.finfo(np.float32).max)]

    def test_constant_target(self) -> None:
        """A constant target is centred and not divided by zero."""
        target = encoder("regression", [0.1] * 7)
        assert target.std == 1.0
        assert target.encode(rows(y=[0.1])).tolist() == pytest.approx([0.0], abs=1e-12)

    def test_refuses_a_spread_beyond_float64(self) -> None:
        """Values whose variance overflows are refused in words, not turned into NaN."""
        with pytest.raises(DataError, match="rescale it"):
            encoder("regression", [1e300, -1e300])


@pytest.mark.parametrize(
    "target",
    [
        encoder("classification", ["x", "y"]),
        encoder("multi_class", ["x", "y"]),
        encoder("regression", [0.1, 1 / 3, 2e-17]),
        flags(wet=["1", "0"], cold=["0", "1"]),
        joined(["a;b", "a"]),
    ],
    ids=["binary", "multi_class", "regression", "columns", "joined"],
)
def test_json_round_trip_is_exact(target: TargetEncoder) -> None:
    """Through JSON text and back nothing changes, not the last bit of a mean."""
    again = TargetEncoder.from_json(json.loads(json.dumps(target.to_json())))
    assert again.to_json() == target.to_json()
    assert (again.mean, again.std, again.labels, again.columns) == (
        target.mean,
        target.std,
        target.labels,
        target.columns,
    )


def test_what_the_first_release_wrote_keeps_its_meaning() -> None:
    """Its classification of two labels had an output for each of them."""
    older = {"version": 1, "task": "classification", "column": "y", "label_type": "string", "labels": ["a", "b"]}
    target = TargetEncoder.from_json(older | {"mean": 0.0, "std": 1.0})
    assert (target.task, target.columns, target.num_outputs, target.counts) == ("multi_class", ("y",), 2, ())
    older = {"version": 1, "task": "regression", "column": "y", "label_type": "string", "labels": []}
    target = TargetEncoder.from_json(older | {"mean": 3.0, "std": 2.0})
    assert (target.task, target.num_outputs, target.mean, target.std) == ("regression", 1, 3.0, 2.0)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"task": "x"},
        {"task": "classification"},
        {"task": "regression"},
        {"task": "multi_label"},
        {"columns": 3},
        {"columns": []},
        {"labels": ["a", "a"]},
        {"labels": ["a", "b", "c"], "counts": []},
        {"counts": [1]},
        {"counts": [1, -1]},
        {"num_rows": True},
        {"mean": None},
        {"std": 0.0},
        {"std": "1"},
        {"separator": 1},
    ],
)
def test_refuses_what_it_did_not_write(change: dict[str, Any]) -> None:
    """A broken or foreign state is a StateError."""
    with pytest.raises(StateError):
        TargetEncoder.from_json(encoder("classification", ["x", "y"]).to_json() | change)
