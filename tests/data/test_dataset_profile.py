"""A profile survives JSON text, is bounded, and what is none is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from corelane.core.errors import StateError
from corelane.data.dataset_profile import DataProfile
from corelane.data.profiling import Profiler
from corelane.data.schema import Column, Schema
from tests.data.examples import LABEL, batch


def profile() -> DataProfile:
    """A profile of every sort of column that has one."""
    columns = (Column("a", "numeric"), Column("b", "categorical"), Column("x", "tensor", shape=(2,), nullable=False))
    rows = batch(
        {
            "a": [1.5, None, -2.0],
            "b": ["é", "u", None],
            "x": np.zeros((3, 2), dtype=np.float32),
            "label": ["yes", "no", "no"],
        }
    )
    profiler = Profiler(Schema(columns, (LABEL,), "classification"))
    profiler.update(rows)
    return profiler.profile()


def test_round_trip() -> None:
    """JSON text gives the same profile, without anything that JSON does not have."""
    text = json.dumps(profile().to_json(), allow_nan=False)
    assert DataProfile.from_json(json.loads(text)) == profile()
    assert profile().column("b") is not None
    assert profile().column("absent") is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"columns": 3},
        {"columns": [{"name": "a"}]},
        {"columns": [{**profile().to_json()["columns"][0], "kind": "text"}]},
        {"columns": [{**profile().to_json()["columns"][0], "top": [1]}]},
        {"columns": [{**profile().to_json()["columns"][0], "numbers": {"minimum": 0}}]},
        {"columns": [{**profile().to_json()["columns"][0], "num_missing": "5"}]},
        {"columns": [{**profile().to_json()["columns"][0], "num_missing": -1}]},
        {"columns": [{**profile().to_json()["columns"][0], "num_rows": float("inf")}]},
        {"columns": [{**profile().to_json()["columns"][0], "num_distinct": 1.5}]},
        {"columns": [{**profile().to_json()["columns"][0], "is_exact": 1}]},
        {"columns": [{**profile().to_json()["columns"][0], "name": None}]},
        {"columns": [{**profile().to_json()["columns"][0], "top": [["a", float("inf")]]}]},
        {"columns": [{**profile().to_json()["columns"][0], "shape": "23"}]},
        {"num_rows": True},
        {"num_columns": "3"},
        {"targets": "label"},
        {"targets": [1]},
        {"task": "ranking"},
        {"extra": 1},
    ],
)
def test_refuses_what_it_did_not_write(change: dict[str, Any]) -> None:
    """Another version or a broken field is a StateError, never a half-read profile."""
    with pytest.raises(StateError, match="profile must"):
        DataProfile.from_json(profile().to_json() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [0.0]},
        {"minimum": float("nan")},
        {"shares": []},
        {"edges": ["x"]},
        {"counts": [None]},
        {"counts": "11"},
        {"shares": [float("inf")]},
        {"mean": float("inf")},
        {"maximum": 10**400},
        {"maximum": "5"},
    ],
)
def test_refuses_numbers_that_do_not_fit(change: dict[str, Any]) -> None:
    """Bins must have their edges, and all of them must be finite."""
    stored = profile().to_json()
    stored["columns"][0]["numbers"] |= change
    with pytest.raises(StateError):
        DataProfile.from_json(stored)


def test_reads_what_an_earlier_release_wrote() -> None:
    """Its profiles had one target or none."""
    stored = profile().to_json()
    for targets in (["label"], []):
        older = {key: value for key, value in stored.items() if key != "targets"} | {"version": 1}
        older["target"] = targets[0] if targets else None
        assert DataProfile.from_json(older) == DataProfile.from_json({**stored, "targets": targets})


@pytest.mark.parametrize("data", [None, [], "text", 3, {}])
def test_what_is_no_object_is_no_profile(data: Any) -> None:
    """Whatever JSON a file holds, the answer is an error in words."""
    with pytest.raises(StateError, match="must be a JSON object of version 2"):
        DataProfile.from_json(data)
