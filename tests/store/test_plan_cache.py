"""Plans kept for other runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.store import plan_cache
from corelane.store.plan_cache import PlanCache
from corelane.train.plan import Candidate, candidate_of
from tests.train.examples import fixed_plan

QUIET = SystemLogger(ObserveConfig(log_level="error"))


def test_a_plan_comes_back_by_its_key(tmp_path: Path) -> None:
    """What was put under a key is there for the next process; another key has none."""
    plan = fixed_plan(Candidate(2))
    PlanCache(tmp_path, QUIET, candidate_of).put(plan)
    assert PlanCache(tmp_path, QUIET, candidate_of).get(plan.key) == plan
    assert PlanCache(tmp_path, QUIET, candidate_of).get("other") is None


def test_the_oldest_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are never more than so many."""
    monkeypatch.setattr(plan_cache, "MOST_PLANS", 3)
    cache = PlanCache(tmp_path, QUIET, candidate_of)
    for number in range(5):
        cache.put(replace(fixed_plan(Candidate(1)), key=f"k{number}"))
        os.utime(tmp_path / f"plans/k{number}.json", (number, number))
    assert sorted(path.stem for path in (tmp_path / "plans").iterdir()) == ["k2", "k3", "k4"]


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    """The run goes on with its plan."""
    (tmp_path / "plans").write_text("a file where the folder should be")
    cache = PlanCache(tmp_path, QUIET, candidate_of)
    cache.put(fixed_plan(Candidate(1)))
    assert cache.get("example") is None
