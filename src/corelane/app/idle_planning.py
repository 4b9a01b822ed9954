"""The search for a package's plan: for `corelane optimize`, and beside a server that has none and is idle.

The server's search is a process of its own with the lowest priority. It begins when the machine has had little to do
for some seconds, and what it finds counts only if that stayed so. Nothing here imports torch.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from corelane.app.planned import plan_key, serving_plans
from corelane.core.clock import Clock, SystemClock
from corelane.core.types import NamedArrays
from corelane.machine.child import Child
from corelane.machine.cpu import Machine
from corelane.machine.others import OthersWatch
from corelane.machine.placement import stream_shapes
from corelane.machine.plan import Plan
from corelane.model.candidate import Candidate, Objective
from corelane.model.optimize import search
from corelane.model.package import ModelPackage
from corelane.serve.planned import UNPLANNED
from corelane.store.hold import hold
from corelane.store.plan_cache import FOLDER

INPUT_ROWS = 1024  # of the network's inputs that calls are timed with
LOOK_S = 1.0  # between two looks for packages without a plan
START_S = 10.0  # after such a package came into service: one that is stopped sooner costs no search
IDLE_S = 3.0  # of little to do before a search begins, and between attempts
IDLE_SHARE = 0.1  # of the CPUs, that others may use then
BUSY_SHARE = 0.2  # with more during the search, its times are those of a busy machine
MOST_ATTEMPTS = 1000  # an hour and more of a server that is never idle
LOWEST = 19


def searched_plan(
    package: ModelPackage, objective: Objective, inputs: NamedArrays, machine: Machine, clock: Clock
) -> Plan[Candidate]:
    """The plan of `package` for `objective`, searched on this machine."""
    shapes = stream_shapes(machine, machine.thread_budget)
    found = search(
        package, inputs, objective, shapes=shapes, isa=machine.isa, memory_bytes=machine.memory_bytes, clock=clock
    )
    return Plan(plan_key(package.digest, objective, machine), found.trials, found.chosen, found.reason)


def network_inputs(package: ModelPackage, rows: pa.Table) -> NamedArrays:
    """What the network gets of the first of `rows`."""
    batch = rows.select([column.name for column in package.pipeline.schema.columns]).slice(0, INPUT_ROWS)
    return package.pipeline.transform(batch.combine_chunks().to_batches()[0])


def plan_when_idle(path: Path, cache: Path, *, clock: Clock | None = None) -> Plan[Candidate] | None:
    """The plan of the package at `path` for latency, searched when nobody else needs the CPUs, and kept in `cache`.

    None where the package holds no rows to time calls with, or the machine was never idle. The package is held
    meanwhile: where it is a server's copy, nobody removes it.
    """
    os.nice(LOWEST)
    held = hold(path)
    try:
        return _planned_when_idle(path, cache, clock or SystemClock())
    finally:
        if held is not None:
            held.release()


def _planned_when_idle(path: Path, cache: Path, clock: Clock) -> Plan[Candidate] | None:
    package, machine = ModelPackage.load(path), Machine.detect()
    rows = package.holdout() or (None if package.golden is None else pa.Table.from_batches([package.golden.rows]))
    if rows is None:
        return None
    inputs = network_inputs(package, rows)
    for _ in range(MOST_ATTEMPTS):
        watch = OthersWatch(machine.logical_cpus)
        clock.sleep(IDLE_S)
        if watch.share() > IDLE_SHARE:
            continue
        watch = OthersWatch(machine.logical_cpus)
        plan = searched_plan(package, "latency", inputs, machine, clock)
        if watch.share() <= BUSY_SHARE:
            with serving_plans(cache) as plans:
                plans.put(plan)
            return plan
    return None


@contextmanager
def planning_beside(cache: Path) -> Iterator[Path]:
    """Yields a folder. While the context lasts, packages that workers leave word of there (`serve/planned.py`) are
    planned in turn, in a process of its own, when the machine is idle.
    """
    with tempfile.TemporaryDirectory(prefix="corelane-unplanned-") as name:
        folder, is_over = Path(name), threading.Event()
        # The thread that starts the search has to outlive it.
        thread = threading.Thread(target=_plan_all, args=(folder, cache, is_over), name="planning", daemon=True)
        thread.start()
        try:
            yield folder
        finally:
            is_over.set()
            thread.join()


def _plan_all(folder: Path, cache: Path, is_over: threading.Event) -> None:
    """Start a search for each package that `folder` tells of and that has no plan, once, and one search at a time."""
    tried: set[Path] = set()
    search: Child | None = None
    try:
        while not is_over.wait(LOOK_S):
            if search is not None and search.poll() is None:
                continue
            word = next((path for path in sorted(folder.glob(f"*{UNPLANNED}")) if path not in tried), None)
            if word is None:
                continue
            tried.add(word)
            if not (cache / FOLDER / f"{word.stem}.json").exists():
                search = _search(Path(word.read_text(encoding="utf-8")), cache)
    finally:
        if search is not None:
            search.kill()


def _search(package: Path, cache: Path) -> Child:
    # Standard output is the server's, whose reader waits for its end.
    later = ["sh", "-c", 'exec > /dev/null && sleep "$0" && exec "$@"', str(START_S)]
    return Child([*later, sys.executable, "-m", "corelane", "plan-worker", "--cache", str(cache), str(package)])
