"""Labels to class numbers, values to standardised numbers, and what both refuse."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError, StateError
from corelane.core.types import Task
from corelane.data.schema import Column
from corelane.data.target import MAX_LABELS, TargetEncoder, TargetFitter


def encoder(task: Task, values: Any, **column: Any) -> TargetEncoder:
    kind: Any = "numeric" if task == "regression" else "categorical"
    fitter = TargetFitter(task, Column("y", kind, nullable=False, **column))
    for value in values:
        fitter.update(pa.RecordBatch.from_pydict({"y": [value]}))
    return fitter.finish()


class TestClassification:
    def test_labels_are_sorted_and_unseen_ones_marked(self) -> None:
        """Texts are sorted; a label the training part did not have is -1, and so is a missing one."""
        target = encoder("classification", ["b", "a", "b"])
        assert target.labels == ("a", "b")
        assert target.num_outputs == 2
        codes = target.encode(pa.array(["b", "a", "c", None]))
        assert codes.tolist() == [1, 0, -1, -1]
        assert codes.dtype == np.int64
        assert target.label_array().tolist() == ["a", "b"]

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
        fitter = TargetFitter("classification", Column("y", "categorical"))
        with pytest.raises(DataError, match=f"at most {MAX_LABELS} labels"):
            fitter.update(pa.RecordBatch.from_pydict({"y": [str(index) for index in range(MAX_LABELS + 1)]}))


class TestRegression:
    def test_standardises(self) -> None:
        """float32 with the mean and the deviation of the training part."""
        target = encoder("regression", [1.0, 3.0])
        assert (target.mean, target.std, target.num_outputs) == (2.0, 1.0, 1)
        encoded = target.encode(pa.array([1.0, 2.0, 1e300]))
        assert encoded.dtype == np.float32
        assert encoded.tolist() == [-1.0, 0.0, float(np.finfo(np.float32).max)]

    def test_constant_target(self) -> None:
        """A constant target is centred and not divided by zero."""
        target = encoder("regression", [0.1] * 7)
        assert target.std == 1.0
        assert target.encode(pa.array([0.1])).tolist() == pytest.approx([0.0], abs=1e-12)

    def test_refuses_a_spread_beyond_float64(self) -> None:
        """Values whose variance overflows are refused in words, not turned into NaN."""
        with pytest.raises(DataError, match="rescale it"):
            encoder("regression", [1e300, -1e300])


@pytest.mark.parametrize(("task", "values"), [("classification", ["x", "y"]), ("regression", [0.1, 1 / 3, 2e-17])])
def test_json_round_trip_is_exact(task: Task, values: list[Any]) -> None:
    """Through JSON text and back nothing changes, not the last bit of a mean."""
    target = encoder(task, values)
    again = TargetEncoder.from_json(json.loads(json.dumps(target.to_json())))
    assert again.to_json() == target.to_json()
    assert (again.mean, again.std, again.labels) == (target.mean, target.std, target.labels)


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"task": "x"}, {"column": 3}, {"labels": ["a", "a"]}, {"mean": None}, {"std": 0.0}, {"std": "1"}],
)
def test_refuses_what_it_did_not_write(change: dict[str, Any]) -> None:
    """A broken or foreign state is a StateError."""
    with pytest.raises(StateError):
        TargetEncoder.from_json(encoder("classification", ["x", "y"]).to_json() | change)
