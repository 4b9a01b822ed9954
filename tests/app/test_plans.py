"""Finding a plan by what a user knows of it, and showing it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corelane.app import plans, plans_text
from corelane.cli import cli
from corelane.core.errors import ConfigError
from corelane.machine.plan import Plan, Trial
from corelane.store.plan_cache import write_plan
from corelane.train.plan import Candidate

CHOSEN = Candidate(2, "channels_last")
PLAN = Plan(
    key="0123abcd",
    candidates=(
        Trial(CHOSEN, "chosen: 1.5 ms a step", 0.0015, 0.0, 0.0),
        Trial(Candidate(1), "60% slower than eager, 2 threads, channels_last, float32", 0.0024, 0.0, 0.0001),
        Trial(Candidate(2, engine="compiled"), "cannot be used: there is no g++"),
        Trial(Candidate(1, engine="graph"), "40% slower than it", 0.002, 7.25, 0.0),
    ),
    chosen=CHOSEN,
    reason="eager, 2 threads, channels_last, float32: the fastest of 3 timed",
    tolerance=0.01,
    environment={"GOMP_SPINCOUNT": "10000"},
)
CONFIG = "name: digits\ndata: {source: {type: memory}, target: y}\n"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with one run that has a plan, and a cache beside it that has the same plan."""
    run = tmp_path / "runs/digits-001"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG)
    (tmp_path / "config.yaml").write_text(CONFIG)
    write_plan(run / "plan.json", PLAN)
    (tmp_path / "cache/plans").mkdir(parents=True)
    write_plan(tmp_path / "cache/plans/0123abcd.json", PLAN)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    "what",
    [None, "{}/runs/digits-001", "digits-001", "{}/config.yaml", "{}/runs/digits-001/plan.json", "0123abcd", "0123"],
)
def test_a_plan_is_found_by_what_is_known_of_it(runs: Path, what: str | None) -> None:
    """A run's folder or name, a configuration, a file, a key or its start; nothing means the newest run."""
    named = what.format(runs.parent) if what else None
    answer = plans.show(named, runs=runs, cache=runs.parent / "cache")
    assert answer["chosen_name"] == str(CHOSEN)
    assert [candidate["verdict"] for candidate in answer["candidates"]] == [trial.verdict for trial in PLAN.candidates]


@pytest.mark.parametrize("what", ["nowhere", "ffff", "other.yaml", "../digits-001"])
def test_what_is_not_there_is_said(runs: Path, what: str) -> None:
    """A name that fits nothing is the user's mistake, in words."""
    (runs.parent / "other.yaml").write_text(CONFIG.replace("digits", "never-trained"))
    with pytest.raises(ConfigError, match="must"):
        plans.show(str(runs.parent / what) if what.endswith(".yaml") else what, runs=runs, cache=runs.parent / "cache")
    with pytest.raises(ConfigError, match="run with a plan"):
        plans.show(runs=runs.parent / "cache")


def test_each_candidate_has_a_sentence(runs: Path) -> None:
    """Time, start and verdict of each on a line of its own, under what was chosen and why."""
    text = plans_text.plan_text(plans.show(runs=runs))
    for part in (
        "because       eager, 2 threads, channels_last, float32: the fastest of 3 timed",
        "eager, 2 threads, channels_last, float32  1.5 ms a step: chosen: 1.5 ms a step.",
        "eager, 1 thread, float32                  2.4 ms a step: 60% slower than eager, 2 threads",
        "compiled, 2 threads, float32              cannot be used: there is no g++.",
        "graph, 1 thread, float32                  2 ms a step and 7.2 s to start: 40% slower than it.",
        "1.00% between the losses",
        "GOMP_SPINCOUNT=10000",
    ):
        assert part in text


def test_the_command_prints_json(runs: Path) -> None:
    """`--json` is one object with every candidate."""
    result = CliRunner().invoke(cli, ["plan", "show", str(runs / "digits-001"), "--json"])
    assert json.loads(result.output)["key"] == "0123abcd"
    assert CliRunner().invoke(cli, ["plan", "show", "nowhere"]).exit_code == 2


def test_a_run_goes_on_under_the_settings_of_its_plan(runs: Path) -> None:
    """The environment of the run's plan, else that of the file that is configured, else none."""
    settings = {"GOMP_SPINCOUNT": "10000"}
    assert plans.planned_environment(runs / "digits-001", "auto") == settings
    assert plans.planned_environment(runs, str(runs / "digits-001/plan.json")) == settings
    assert plans.planned_environment(runs, "auto") == {}
