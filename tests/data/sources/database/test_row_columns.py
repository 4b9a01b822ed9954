"""Rows of Python values as columns of Arrow."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.sources.database.row_columns import batch_of, schema_of

ZONE = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("values", "kind", "cells"),
    [
        ([1, None], pa.int64(), [1, None]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([True, False], pa.bool_(), [True, False]),
        ([decimal.Decimal("1.5"), None], pa.float64(), [1.5, None]),
        (["a", None], pa.string(), ["a", None]),
        ([1, "a"], pa.string(), ["1", "a"]),
        ([None, None], pa.string(), [None, None]),
        ([b"x"], pa.binary(), [b"x"]),
        ([datetime.date(2024, 2, 29)], pa.date32(), [datetime.date(2024, 2, 29)]),
        ([datetime.time(1, 2)], pa.time64("us"), [datetime.time(1, 2)]),
        ([uuid.UUID(int=1)], pa.string(), [str(uuid.UUID(int=1))]),
        ([{"a": [1, None]}], pa.string(), ['{"a": [1, null]}']),
    ],
)
def test_a_columns_type_is_that_of_its_values(values: list[Any], kind: pa.DataType, cells: list[Any]) -> None:
    """Numbers widen, mixtures and unknown classes are text, objects and lists are JSON."""
    rows = [(value,) for value in values]
    schema = schema_of(["a"], rows)
    assert schema == pa.schema([("a", kind)])
    assert batch_of(rows, schema).column("a").to_pylist() == cells


def test_zoned_times_are_the_same_instant() -> None:
    """In UTC."""
    moment = datetime.datetime(2024, 2, 29, 12, tzinfo=ZONE)
    schema = schema_of(["a"], [(moment,)])
    assert batch_of([(moment,)], schema).column("a").to_pylist() == [moment]


@pytest.mark.parametrize("value", ["x", 2**70, b"x", 1.5])
def test_a_late_value_of_another_kind_is_told(value: Any) -> None:
    """The first rows decide; a value that does not fit is named by its column."""
    with pytest.raises(DataError, match="a must hold int64 in every row"):
        batch_of([(value,)], schema_of(["a"], [(1,)]))


def test_no_rows_are_columns_of_text() -> None:
    """Nothing is known of them."""
    assert schema_of(["a", "b"], []) == pa.schema([("a", pa.string()), ("b", pa.string())])
