"""How this machine trains this network: the plan of a run, fixed before step 0 and never changed within it.

What a candidate of training is, and the plan that lies in a run's directory. Plans are found by `planning.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from corelane.core.errors import StateError
from corelane.core.types import JsonObject
from corelane.machine import plan as machine_plan
from corelane.store import plan_cache

FILE: Final = "plan.json"

MemoryFormat = Literal["contiguous", "channels_last"]
Engine = Literal["eager", "compiled", "compiled_cpp", "graph"]
Precision = Literal["float32", "bf16", "bf32"]


@dataclass(frozen=True)
class Candidate:
    """One way to run a step: threads, layout of 4-d tensors, engine and precision.

    `bf16` runs the network under autocast to bfloat16; `bf32` keeps float32 tensors and uses bfloat16 inside matrix
    products and convolutions.
    """

    threads: int
    memory_format: MemoryFormat = "contiguous"
    engine: Engine = "eager"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        known = {"memory_format": MemoryFormat, "engine": Engine, "precision": Precision}
        for name, values in known.items():
            if getattr(self, name) not in get_args(values):
                raise StateError(
                    f"{name} of a plan must be one of {', '.join(get_args(values))}, got {getattr(self, name)!r}; "
                    "use a plan of this release"
                )

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        layout = f", {self.memory_format}" * (self.memory_format != "contiguous")
        return f"{self.engine}, {threads}{layout}, {self.precision}"


Plan: TypeAlias = machine_plan.Plan[Candidate]


def digest_of(plan: Plan) -> str:
    """SHA-256 of the chosen candidate: what a resumed run must share, because it decides the bits.

    The optimiser's entry stood in the first release's candidates; with it, their runs go on.
    """
    chosen = {**asdict(plan.chosen), "optimizer": "adamw_fused"}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def plan_from_json(values: JsonObject) -> Plan:
    """The plan in `values`. Raises `StateError` when it is of an unknown version or none of ours."""
    return Plan.from_json(values, candidate_of)


def read_plan(path: Path) -> Plan:
    """The plan in the file `path`. Raises `StateError` for anything else; `OSError` when it cannot be read."""
    return plan_cache.read_plan(path, candidate_of)


def plan_of_run(directory: Path, make: Callable[[], Plan]) -> Plan:
    """The plan of the run in `directory`: the one in its plan.json, else what `make` gives, made durable there.

    So a resumed run has the plan it began with, whatever the machine is by then.
    """
    path = directory / FILE
    if path.is_file():
        return read_plan(path)
    plan = make()
    plan_cache.write_plan(path, plan)
    return plan


def candidate_of(optimizer: str = "", **fields: object) -> Candidate:
    """A candidate of any release; the optimiser is the configuration's since the second."""
    del optimizer
    return Candidate(**fields)  # type: ignore[arg-type]
