"""Rows beside what is promised rather than a peer (they have the peer `bar`): what the framework takes, the time to the
first step, what saves cost; and the plan beside an exhaustive search. Called by `__main__.py`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import BAR, Row, run_json, say
from benchmarks.training import saving
from benchmarks.training.cases import CASES, FIRST_STEP_S, FRAMEWORK_SHARE, PLAN_LOSS, SECONDS

TIMEOUT_S = 1800.0  # an exhaustive search compiles everything, for every number of threads


def framework_share(row: Row) -> Row:
    """What our abstractions took of the time, from the row against hand-loop."""
    return _share(f"{row.case} framework-share", 1 - row.ratio, FRAMEWORK_SHARE)


def plan_loss(case: str, data: Path, num_rounds: int) -> Row:
    """How much longer a run of 200 epochs takes with the plan that was searched than with the best there is."""
    seen = []
    for _ in range(num_rounds):
        with plan_of(case, data) as plan:
            seen.append(run_json([*_planned("exhaust", case, data), str(plan)], timeout_s=TIMEOUT_S))
        say(f"  {case}: {seen[-1]['chosen_s']:.3g} s planned, {seen[-1]['best_s']:.3g} s at best")
    ours, best = (statistics.median(one[name] for one in seen) for name in ("chosen_s", "best_s"))
    return Row(f"{case} plan", "exhaustive", ours, best, SECONDS.unit, SECONDS.ratio(ours, best), 1 / (1 + PLAN_LOSS))


def first_step(name: str, data: Path, num_rounds: int) -> Row:
    """Seconds from the imports to the first step, everything that can be kept having been kept by an earlier run."""
    with plan_of("mlp-b64", data) as plan:
        values = json.loads(plan.read_bytes())
        values["chosen"]["engine"] = _engine(name, values["chosen"]["engine"])
        plan.write_text(json.dumps(values))
        command = [*as_trainer(), "-m", "benchmarks.training.first_step", str(data), str(plan)]
        seen = [run_json(command, timeout_s=TIMEOUT_S)["seconds"] for _ in range(num_rounds + 1)]
    say(f"  {name} ({values['chosen']['engine']}): " + "  ".join(f"{seconds:.2f}" for seconds in seen))
    ours, most = statistics.median(seen[1:]), FIRST_STEP_S[name]
    return Row(name, BAR, ours, most, SECONDS.unit, SECONDS.ratio(ours, most), 1.0)


def _engine(name: str, chosen: str) -> str:
    if name == "first-step-eager":
        return "eager"
    return "compiled" if chosen == "eager" else chosen


def save_share(data: Path, num_rounds: int) -> Row:
    """What the loop waits for durable checkpoints and what their writer computes, of the time of the steps."""
    return _share(saving.CASE, saving.measure(num_rounds, data)["share"], saving.LIMIT)


def _share(name: str, share: float, most: float) -> Row:
    """A share of the time in percent. The ratio compares what is left, so that it has no pole where nothing is lost."""
    return Row(name, BAR, 100 * share, 100 * most, "% of the time", (1 - share) / (1 - most), 1.0)


Promise = Callable[[Path, int], list[Row]]

PROMISES: Mapping[str, Promise] = {
    "plan-vs-exhaustive": lambda data, num_rounds: [plan_loss(case, data, num_rounds) for case in CASES],
    **{name: lambda data, rounds, name=name: [first_step(name, data, rounds)] for name in FIRST_STEP_S},  # type: ignore[misc]
    saving.CASE: lambda data, num_rounds: [save_share(data, num_rounds)],
}
"""By the name for `--case`: what is measured, from the folder of Fashion-MNIST and the number of rounds."""


def as_trainer() -> list[str]:
    """The start of a command line whose process waits at barriers as the trainer of `corelane train` does."""
    from corelane.app.config import spin_setting

    return [*spin_setting(), sys.executable]


def _planned(what: str, case: str, data: Path) -> list[str]:
    return [*as_trainer(), "-m", "benchmarks.training.planned", what, case, str(data)]


@contextmanager
def plan_of(case: str, data: Path) -> Iterator[Path]:
    """The plan of `case`, searched for 200 epochs, as a file."""
    with TemporaryDirectory(prefix="corelane-benchmark-") as folder:
        plan = Path(folder, "plan.json")
        seen = run_json([*_planned("search", case, data), str(plan)], timeout_s=TIMEOUT_S)
        say(f"{case}: {seen['reason']}")
        yield plan
