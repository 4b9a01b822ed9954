"""How this machine runs a package: the plan that `corelane optimize` left in the cache. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from corelane.app.config import cache_directory
from corelane.core.types import JsonObject
from corelane.machine.cpu import Machine
from corelane.machine.plan import key_of
from corelane.model.candidate import BATCHES, SAFE, Candidate, Objective
from corelane.model.package import ModelPackage
from corelane.model.runtimes.opening import usable_runtimes
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.store.plan_cache import PlanCache


def chosen_for(package: ModelPackage, objective: Objective, *, cache: Path | None = None) -> Candidate:
    """How this machine runs `package` for `objective`: what its plan in the cache says, or the safe way without one."""
    with serving_plans(cache if cache is not None else cache_directory()) as plans:
        plan = plans.get(plan_key(package.digest, objective, Machine.detect()))
    return SAFE if plan is None or plan.chosen.graph not in package.graphs else plan.chosen


def plan_key(digest: str, objective: Objective, machine: Machine) -> str:
    """What a plan holds for: a package by its digest, an objective, this machine and its budget, the libraries."""
    return key_of({"package": digest, **plan_facts(objective, machine)})


def plan_facts(objective: Objective, machine: Machine) -> JsonObject:
    """What the key of a plan is made of beside the package."""
    return {
        "objective": objective,
        "batches": BATCHES,
        "machine": [machine.model_name, list(machine.isa), machine.cpu_quota, list(machine.caches.items())],
        "threads": machine.thread_budget,
        "versions": {name: version(name) for name in usable_runtimes()},
    }


@contextmanager
def serving_plans(cache: Path) -> Iterator[PlanCache[Candidate]]:
    """The cache of plans in the directory `cache`; what is wrong with one goes to the terminal."""
    with SystemLogger(ObserveConfig(), terminal_level="warning") as logger:
        yield PlanCache(cache, logger, Candidate)
