"""Plans of a case, in a process of its own, for a run of 200 epochs.

`python -m benchmarks.training.planned search CASE DATA FILE` leaves the plan that a run searches at FILE and prints
`{"reason": ...}`. `... exhaust CASE DATA FILE` times every candidate at length and prints `{"chosen_s": ..., "best_s":
...}`: how long the whole run is predicted to take with the plan in FILE, compiling included, and with the best.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkError
from benchmarks.training.cases import CASES, NUM_PLANNED_EPOCHS, Case
from benchmarks.training.data import raw
from benchmarks.training.ours import cache_beside, config_of, scratch


def search(case: Case, data: Path, file: Path) -> dict[str, Any]:
    """Begin a run, which searches its plan, stop it after a step, and keep the plan."""
    from corelane import app
    from corelane.core.errors import InterruptedRunError

    with scratch() as folder:
        runs = Path(folder, "runs")
        config = config_of(case, NUM_PLANNED_EPOCHS, cache=cache_beside(file))
        try:
            app.train(config, data=raw(case, data), runs=runs, quiet=True, observers=[_stop])
        except InterruptedRunError:
            shutil.copyfile(next(runs.glob("*/plan.json")), file)
    return {"reason": json.loads(file.read_bytes())["reason"]}


def _stop(record: object) -> None:
    del record
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # which waits for this thread meanwhile


def exhaust(case: Case, data: Path, file: Path) -> dict[str, Any]:
    """Time everything, and look up what was chosen."""
    from corelane.train.plan import read_plan

    chosen = read_plan(file).chosen
    with scratch() as folder, _planner(case, data, Path(folder)) as (planner, num_steps):
        trials = planner.exhaust(Path(folder)).candidates
    totals_s = {trial.candidate: trial.total_s(num_steps) for trial in trials if trial.step_s is not None}
    if chosen not in totals_s:
        raise BenchmarkError(f"the chosen candidate must be among those that could be timed, got {chosen}")
    return {"chosen_s": totals_s[chosen], "best_s": min(totals_s.values())}


@contextmanager
def _planner(case: Case, data: Path, folder: Path) -> Iterator[tuple[Any, int]]:
    """What plans the run of `case`, as `app` makes it, and the steps of that run."""
    from corelane.app.compiling import compile_cache
    from corelane.app.config import from_values, pool_settings
    from corelane.app.tiers import disk_tier
    from corelane.app.training import budget_of, initial_module, prepare_run
    from corelane.core.clock import SystemClock
    from corelane.data.processor import CPUDataProcessor
    from corelane.data.sources.memory import InMemorySource
    from corelane.machine.cpu import Machine
    from corelane.observe.log import SystemLogger
    from corelane.store.plan_cache import PlanCache
    from corelane.train.plan import candidate_of
    from corelane.train.planning import Planner, Site

    config = config_of(case, NUM_PLANNED_EPOCHS, cache=folder / "cache")
    root = from_values({**config, "data": {**config["data"], "source": {"type": "memory"}}}, base=folder)
    logger = SystemLogger(root.observe, terminal_level="error")
    source = InMemorySource(raw(case, data))
    prepared = prepare_run(root, (source, None), folder, disk_tier(root, logger), logger)
    threads = budget_of(root).threads
    with compile_cache(root), CPUDataProcessor(num_workers=threads, pipeline=prepared.pipeline) as processor:
        planner = Planner(
            root.train,
            module=initial_module(root, prepared),
            data=prepared,
            processor=processor,
            seed=root.seed,
            site=Site(Machine.detect(), threads, pool_settings()),
            cache=PlanCache(folder, logger, candidate_of),
            clock=SystemClock(),
            should_stop=lambda: False,
        )
        yield planner, NUM_PLANNED_EPOCHS * (prepared.train.num_rows // case.batch_size)
    logger.close()


def main(what: str, case: str, data: str, file: str) -> None:
    """Plan and print."""
    print(json.dumps({"search": search, "exhaust": exhaust}[what](CASES[case], Path(data), Path(file))))


if __name__ == "__main__":
    main(*sys.argv[1:])
