"""The page of faults is true: every fault of it has tests that name it, in files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "faults.md").read_text()
ROWS = dict(re.findall(r"^\| (C\d+) \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE))


@pytest.mark.parametrize("fault", [f"C{number}" for number in range(1, 17)])
def test_a_fault_has_tests_that_name_it(fault: str) -> None:
    """The first file of its row begins a description with it; the others exist."""
    first, *others = re.findall(r"`([^`]*)`", ROWS[fault])
    assert re.search(rf'"""(C\d+, )*{fault}\b', (TESTS / first).read_text())
    assert all((TESTS / other).is_file() for other in others)
