"""The rules of a configuration for rows of a schema."""

from __future__ import annotations

from typing import Any

from corelane.data.config import DataConfig, MemoryConfig
from corelane.data.rules import RowRules
from corelane.data.schema import Column, Schema
from tests.data.examples import LABEL

SCHEMA = Schema((Column("a", "numeric"), Column("b", "categorical")), (LABEL,), "classification")


def rules(**config: Any) -> RowRules:
    return RowRules.of(DataConfig(source=MemoryConfig(), target="label", **config), SCHEMA)


def test_nothing_is_asked_unless_configured() -> None:
    """Without rules nothing is compared, and no other column is read."""
    assert rules() == RowRules()


def test_all_columns_that_train_are_compared_or_those_named() -> None:
    """`deduplicate: true` compares features and target; excluded columns only where they are named."""
    assert rules(deduplicate=True, exclude=["id"]).compared == ("a", "b", "label")
    named = rules(deduplicate=["b", "id"], exclude=["id"])
    assert named.compared == ("b", "id")
    assert named.keys == ("id",)


def test_whatever_changes_the_rows_changes_the_json() -> None:
    """The key of prepared data follows every rule."""
    variants = [
        rules(),
        rules(deduplicate=True),
        rules(deduplicate=["a"]),
        rules(columns={"a": {"unique": True}}),
        rules(columns={"a": {"on_fault": "drop"}}),
        rules(columns={"id": {"unique": True}}, exclude=["id"]),
    ]
    assert len({str(variant.to_json()) for variant in variants}) == len(variants)
