"""The plan of a run, and its way to and from disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from torch import nn

from corelane.core.errors import StateError
from corelane.machine.plan import Plan, Trial
from corelane.store.plan_cache import write_plan
from corelane.train.plan import Candidate, digest_of, plan_from_json, plan_of_run, read_plan
from tests.train.examples import classification, dropout_net, fixed_plan, run, weights

OLD = {
    "threads": 1,
    "memory_format": "contiguous",
    "engine": "eager",
    "optimizer": "adamw_fused",
    "precision": "float32",
}
OLD_PLAN = {"version": 1, "key": "0-b32-t1", "candidates": [OLD], "chosen": OLD, "reason": "fixed", "tolerance": 0.0}


def test_a_run_keeps_its_plan(tmp_path: Path) -> None:
    """The plan is on disk when it is chosen; asked again, the run's own comes back and none is made."""
    plan = fixed_plan(Candidate(2))
    assert plan_of_run(tmp_path, lambda: plan) == plan
    assert read_plan(tmp_path / "plan.json") == plan
    assert plan_of_run(tmp_path, lambda: pytest.fail("the run has a plan")) == plan


def test_a_plan_goes_to_disk_and_back(tmp_path: Path) -> None:
    """Times, agreement, verdicts and environment come back as they were."""
    chosen = Candidate(2, "channels_last", "compiled_cpp", "bf16")
    trials = (Trial(chosen, "chosen", 0.001, 3.5, 0.002), Trial(Candidate(1), "cannot be used: no g++"))
    plan = Plan("key", trials, chosen, "fastest", 0.01, {"GOMP_SPINCOUNT": "10000"})
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_the_digest_is_of_what_was_chosen() -> None:
    """Another thread count, engine or precision is another digest; times and reasons are not in it."""
    candidates = [Candidate(1), Candidate(2), Candidate(1, engine="compiled"), Candidate(1, precision="bf16")]
    assert len({digest_of(fixed_plan(candidate)) for candidate in candidates}) == 4
    one, other = fixed_plan(Candidate(1)), Plan("other", (), Candidate(1), "another reason")
    assert digest_of(one) == digest_of(other)


def test_runs_of_the_first_version_go_on(tmp_path: Path) -> None:
    """A plan of version 1 is read; its digest is what the checkpoints of its run have."""
    plan = plan_from_json(OLD_PLAN)
    assert plan.chosen == Candidate(1)
    assert digest_of(plan) == hashlib.sha256(json.dumps(OLD, sort_keys=True).encode()).hexdigest()
    (tmp_path / "plan.json").write_text(json.dumps(OLD_PLAN))
    assert plan_of_run(tmp_path, lambda: pytest.fail("the run has a plan")) == plan


@pytest.mark.parametrize(
    "values",
    [
        {**OLD_PLAN, "version": 3},
        {"version": 2},
        {**OLD_PLAN, "chosen": {"threads": 1, "engine": "steam"}},
        {**OLD_PLAN, "chosen": {"horses": 4}},
        [],
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, values: object) -> None:
    """A plan of another release, or something else, is not guessed at."""
    (tmp_path / "plan.json").write_text(json.dumps(values))
    with pytest.raises(StateError):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(StateError, match="JSON"):
        read_plan(tmp_path / "plan.json")


def test_precision_changes_the_weights(tmp_path: Path) -> None:
    """A run under bfloat16 learns, and is another one than in float32; both are evaluated in float32."""
    nets: dict[str, nn.Module] = {"float32": dropout_net(), "bf16": dropout_net(), "again": dropout_net()}
    results = {
        name: run(tmp_path / name, classification(), net, plan=fixed_plan(Candidate(1, precision=precision)))
        for (name, net), precision in zip(nets.items(), ("float32", "bf16", "bf16"), strict=True)
    }
    assert weights(nets["float32"]) != weights(nets["bf16"])
    assert weights(nets["bf16"]) == weights(nets["again"])
    assert results["bf16"].metrics["test_loss"] == pytest.approx(results["float32"].metrics["test_loss"], rel=0.1)
