"""What may be declared of one column: limits and rules that can hold together."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError
from corelane.data.column_config import ColumnConfig


def test_bounds_may_be_one_sided_or_equal() -> None:
    """One bound alone, or two equal ones, are fine."""
    assert ColumnConfig(minimum=1.0).maximum is None
    assert ColumnConfig(minimum=1.0, maximum=1.0).minimum == 1.0


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"kind": "number"}, "'numeric'"),
        ({"minimum": 2, "maximum": 1}, "minimum must be at most maximum"),
        ({"outside": "clip"}, "outside must be left out without a minimum or a maximum"),
        ({"outside": "round", "minimum": 1}, "'reject', 'clip' or 'missing'"),
        ({"pattern": "a", "categories": ["b"]}, "either categories or a pattern"),
        ({"nullable": False, "unreadable": "missing"}, "must not be missing where nullable"),
        ({"nullable": False, "minimum": 1, "outside": "missing"}, "must not be missing where nullable"),
        ({"on_fault": "delete"}, "'quarantine' or 'drop'"),
    ],
)
def test_what_cannot_hold_is_refused_in_words(declared: dict[str, Any], words: str) -> None:
    """Each wrong rule, or pair of rules, is named with what it must be."""
    with pytest.raises(ConfigError, match=words):
        validate_config(declared, ColumnConfig)
