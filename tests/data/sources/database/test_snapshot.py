"""What all snapshots share: URLs that can be shown, and keys that rise."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.sources.database.snapshot import KeyOrder, check_exact, hide_secrets, without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:geheim@h:5/d?sslmode=require", "postgresql://u:***@h:5/d?sslmode=require"),
        ("postgresql://u:ge@heim@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=geheim&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql://h/d?sslpassword=geheim", "postgresql://h/d?sslpassword=***"),
        ("mssql+pyodbc://h/d?PWD=geheim", "mssql+pyodbc://h/d?PWD=***"),
        ("postgresql://u:geheim@[h/d", "postgresql://***"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    """Neither the password in front of the host nor one among the options."""
    assert without_secrets(url) == shown


@pytest.mark.parametrize("url", ["postgresql://u:ge%heim@h/d", "postgresql://h/d?password=ge%heim", "x://u:ge%heim@[h"])
def test_a_drivers_words_are_shown_without_secrets(url: str) -> None:
    """A driver may repeat what it could not read."""
    assert "heim" not in hide_secrets(f'invalid percent-encoded token: "ge%heim" in {url}', url)


def batch(*columns: list[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names=["a", "b"][: len(columns)])


def test_keys_that_rise_are_remembered() -> None:
    """Batch after batch; several columns are compared from the left."""
    order = KeyOrder(["a", "b"])
    order.check(batch([1, 1, 2], ["x", "y", "a"]))
    order.check(batch([], []))
    order.check(batch([2], ["b"]))
    assert order.last == (2, "b")


@pytest.mark.parametrize("keys", [[1, 1], [2, 1], [1, None]])
def test_keys_that_do_not_rise_are_refused(keys: list[Any]) -> None:
    """A repeated, falling or missing key would lose rows at a resume."""
    with pytest.raises(DataError, match="the key"):
        KeyOrder(["a"]).check(batch(keys))
    with pytest.raises(DataError, match="the key"):
        KeyOrder(["a"], after=(1,)).check(batch([1]))


def test_a_key_that_python_has_no_value_for_is_refused() -> None:
    """The timestamp `infinity` of PostgreSQL, the largest that Arrow has, cannot be gone on behind."""
    never = pa.array([2**63 - 1], pa.timestamp("us"))
    with pytest.raises(DataError, match="the key a must hold times of the years 1 to 9999"):
        KeyOrder(["a"]).check(pa.RecordBatch.from_arrays([never], names=["a"]))


def test_only_exact_values_are_keys() -> None:
    """Numbers with fractions are none; what is not part of the key may be anything."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.float64())])
    check_exact(schema, ["a"])
    with pytest.raises(ConfigError, match="got 'b' of double"):
        check_exact(schema, ["a", "b"])
