"""How this machine trains this network: the plan of a run, fixed before step 0 and never changed within it.

For now the plan is the best of what was measured by hand (batches gathered by index, eager, fused
AdamW, channels_last where there is a 2-d convolution, as many threads as the budget allows). Its form, candidates with
a reason for the choice, is the one that a search fills.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from corelane.core.errors import StateError
from corelane.core.types import JsonObject
from corelane.store.bundle import write_atomic
from corelane.train.config import TrainConfig

VERSION = 1

MemoryFormat = Literal["contiguous", "channels_last"]


@dataclass(frozen=True)
class Candidate:
    """One way to run a step: threads, layout of 4-d tensors, engine, optimiser and precision."""

    threads: int
    memory_format: MemoryFormat = "contiguous"
    engine: Literal["eager"] = "eager"
    optimizer: Literal["adamw_fused"] = "adamw_fused"
    precision: Literal["float32"] = "float32"


@dataclass(frozen=True)
class Plan:
    """The candidates, the chosen one and why. `key` says what it was made for, `tolerance` what precision may cost."""

    key: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    reason: str
    tolerance: float = 0.0
    version: int = VERSION

    @property
    def digest(self) -> str:
        """SHA-256 of the chosen candidate: what a resumed run must share, because it decides the bits."""
        return hashlib.sha256(json.dumps(asdict(self.chosen), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> JsonObject:
        """The plan as JSON."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, values: JsonObject) -> Plan:
        """The plan that `to_json` gave. Raises `StateError` when its version is unknown."""
        if values.get("version") != VERSION:
            raise StateError(f"the plan must have version {VERSION}, got {values.get('version')!r}; start a new run")
        candidates = tuple(Candidate(**candidate) for candidate in values["candidates"])
        return cls(**{**values, "candidates": candidates, "chosen": Candidate(**values["chosen"])})


def choose_plan(directory: Path, config: TrainConfig, module: torch.nn.Module, *, num_threads: int) -> Plan:
    """The plan of the run in `directory`: the one in its plan.json, else chosen now and made durable there.

    So a resumed run has the plan it began with, whatever the machine's budget is by then.
    """
    path = directory / "plan.json"
    if path.is_file():
        return Plan.from_json(json.loads(path.read_bytes()))
    chosen = Candidate(threads=num_threads, memory_format=_memory_format(module, config))
    key = f"{_architecture(module)}-b{config.batch_size}-t{num_threads}"
    plan = Plan(key=key, candidates=(chosen,), chosen=chosen, reason=_reason(chosen, config))
    write_atomic(path, json.dumps(plan.to_json(), indent=2).encode())
    return plan


def _memory_format(module: torch.nn.Module, config: TrainConfig) -> MemoryFormat:
    if config.memory_format != "auto":
        return config.memory_format
    has_images = any(isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d) for part in module.modules())
    return "channels_last" if has_images else "contiguous"


def _reason(chosen: Candidate, config: TrainConfig) -> str:
    layout = "as configured" if config.memory_format != "auto" else "the faster one for this kind of network"
    return (
        f"fixed: eager with the fused optimiser was never far from the best measured; layout {chosen.memory_format} is "
        f"{layout}; the budget in threads: {chosen.threads}"
    )


def _architecture(module: torch.nn.Module) -> str:
    shapes = [[name, list(tensor.shape)] for name, tensor in module.state_dict().items()]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]
