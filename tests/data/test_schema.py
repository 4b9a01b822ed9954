"""The check of raw rows against a schema, and the schema's own JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError, StateError
from corelane.data.schema import MAX_COLUMNS, Column, Reject, Schema
from tests.data.examples import LABEL, batch, picture


def people() -> Schema:
    columns = (
        Column("age", "numeric", minimum=0.0),
        Column("colour", "categorical"),
        Column("x", "tensor", shape=(2,), nullable=False),
    )
    return Schema(columns, (LABEL,), "classification")


def rows(**changes: Any) -> pa.RecordBatch:
    columns: dict[str, Any] = {
        "age": ["1", " 2.5 ", "NA", "4"],
        "colour": ["red", "", " red ", None],
        "x": np.arange(8.0).reshape(4, 2),
        "label": ["a", "b", "a", "b"],
        "other": [1, 2, 3, 4],
    }
    return batch(columns | changes)


def test_types_every_column_and_leaves_out_the_rest() -> None:
    """Accepted rows have float64, string and float32 tensor columns in schema order, the target last, nothing else."""
    checked = people().check(rows(), needs_target=True)
    assert checked.rejects == ()
    assert checked.accepted.tolist() == [True] * 4
    assert checked.rows.schema.names == ["age", "colour", "x", "label"]
    assert checked.rows.schema.types == [
        pa.float64(),
        pa.string(),
        pa.fixed_shape_tensor(pa.float32(), [2]),
        pa.string(),
    ]
    assert checked.rows.column("age").to_pylist() == [1.0, 2.5, None, 4.0]
    assert checked.rows.column("colour").to_pylist() == ["red", None, "red", None]


def test_a_bad_cell_costs_its_row_only() -> None:
    """Each refused row is reported once, by index, with its first column at fault; the others stay in order."""
    bad = rows(age=["1", "abc", "-3", "4"], label=["a", None, None, "b"])
    checked = people().check(bad, needs_target=True)
    assert checked.rejects == (
        Reject(1, "age", "not_a_number", "age must be a number, got 'abc'"),
        Reject(2, "age", "below_minimum", "age must be at least 0, got '-3'"),
    )
    assert checked.accepted.tolist() == [True, False, False, True]
    assert checked.rows.column("age").to_pylist() == [1.0, 4.0]
    assert checked.rows.column("x").to_numpy_ndarray().tolist() == [[0.0, 1.0], [6.0, 7.0]]


def test_the_target_is_checked_where_it_is_needed() -> None:
    """A missing label rejects a training row and is no concern of scoring."""
    unlabelled = rows(label=["a", None, "a", "b"])
    (reject,) = people().check(unlabelled, needs_target=True).rejects
    assert (reject.index, reject.code, reject.reason) == (1, "missing", "label must have a value, got none")
    checked = people().check(unlabelled, needs_target=False)
    assert checked.rejects == ()
    assert "label" not in checked.rows.schema.names


def test_an_absent_or_doubled_column_is_an_error_of_the_data() -> None:
    """Whole columns are not a matter of single rows; the nearest name is offered."""
    with pytest.raises(DataError, match="must have a column 'age', got none; did you mean 'agee'"):
        people().check(rows().rename_columns(["agee", "colour", "x", "label", "other"]), needs_target=True)
    with pytest.raises(DataError, match="column names must be unique, got 'age' 2 times"):
        people().check(rows().rename_columns(["age", "age", "x", "label", "other"]), needs_target=True)


def test_no_rows_and_only_bad_rows() -> None:
    """An empty batch and a batch without a good row keep the types."""
    for raw in (rows().slice(0, 0), rows(age=["x"] * 4)):
        checked = people().check(raw, needs_target=True)
        assert checked.rows.num_rows == 0
        assert checked.rows.schema.types[2] == pa.fixed_shape_tensor(pa.float32(), [2])


def test_a_slice_is_checked_like_its_own_rows() -> None:
    """Arrow slices share buffers with an offset; no cell of a neighbour may leak in."""
    part = people().check(rows().slice(2, 2), needs_target=True).rows
    assert part.column("age").to_pylist() == [None, 4.0]
    assert part.column("x").to_numpy_ndarray().tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_a_hundred_thousand_good_rows_are_checked_in_bulk() -> None:
    """No Python per row: 100,000 rows of text take well under the second that 5 us per cell would cost."""
    many = 100_000
    raw = batch({"age": [str(index) for index in range(many)], "colour": ["red", "blue"] * (many // 2)})
    schema = Schema(people().columns[:2], (), "classification")
    start = time.perf_counter()
    checked = schema.check(raw, needs_target=False)
    assert checked.rows.num_rows == many
    assert time.perf_counter() - start < 1.0


class TestJson:
    def test_round_trip(self) -> None:
        """A schema survives JSON text exactly, limits, categories and image flags included."""
        columns = (
            Column("a", "numeric", nullable=False, minimum=0.1, maximum=1e300),
            Column("b", "categorical", categories=("y", "x")),
            Column("c", "tensor", shape=(3, 2), nullable=False),
            Column("d", "image", shape=(4, 5, 3), nullable=False, encoded=True, resize=True),
            Column("e", "numeric", maximum=3.0, outside="clip", unreadable="missing"),
            Column("f", "categorical", pattern="[a-z]+", trim=False),
        )
        for schema in (
            Schema(columns, (LABEL,), "classification", positive="yes"),
            Schema(columns, (LABEL, Column("g", "categorical")), "multi_label"),
            Schema(columns, (LABEL,), "multi_label", separator=";"),
            Schema(columns, (), "regression"),
        ):
            assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema

    def test_reads_what_an_earlier_release_wrote(self) -> None:
        """Its schemas had one target or none."""
        written = people().to_json()
        for target in ([LABEL.to_json()], []):
            older = {key: written[key] for key in ("task", "columns")}
            older |= {"version": 2, "target": target[0] if target else None}
            assert Schema.from_json(older) == Schema.from_json({**written, "targets": target})

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 1},
            {"version": None},
            {"task": "ranking"},
            {"columns": [{"name": "a"}]},
            {"columns": 3},
            {"columns": []},
            {"targets": "label"},
            {"targets": ["label"]},
            {"positive": 1},
            {"separator": 1},
        ],
    )
    def test_refuses_what_it_did_not_write(self, change: dict[str, Any]) -> None:
        """Another version or a broken field is a StateError, never a half-read schema."""
        with pytest.raises(StateError):
            Schema.from_json(people().to_json() | change)
        with pytest.raises(StateError):
            Schema.from_json({})


class TestBounds:
    def test_number_of_columns(self) -> None:
        """A schema has at least one and at most MAX_COLUMNS columns."""
        many = tuple(Column(f"c{index}", "numeric") for index in range(MAX_COLUMNS + 1))
        for columns in ((), many):
            with pytest.raises(ConfigError, match="must have 1 to 10000 feature columns"):
                Schema(columns, (), "regression")

    def test_unique_names(self) -> None:
        """Two columns of one name, or a feature named like the target, cannot be told apart."""
        with pytest.raises(ConfigError, match="unique, got 'label' twice"):
            Schema((Column("label", "numeric"),), (LABEL,), "classification")


def test_images_stay_pixels() -> None:
    """Pixels stay uint8 and get their channel axis; nothing is converted before the pipeline."""
    schema = Schema((Column("i", "image", shape=(3, 2, 1), nullable=False),), (), "regression")
    pixels = np.stack([picture(3, 2, 1, seed) for seed in range(2)])
    typed = schema.check(batch({"i": pixels}), needs_target=False).rows.column("i")
    assert typed.type == pa.fixed_shape_tensor(pa.uint8(), [3, 2, 1])
    assert typed.to_numpy_ndarray()[..., 0].tolist() == pixels.tolist()
