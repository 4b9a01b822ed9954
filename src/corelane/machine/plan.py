"""A plan: which way of running a model was measured to be the best on a machine, and what became of the other ways.

One schema for training and serving; what a candidate is, each of them says. `optimizer.py` finds plans. This module
knows neither torch nor ONNX, and no files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from corelane.core.errors import StateError
from corelane.core.types import JsonObject

VERSION = 2
_BARE_VERSION = 1  # its candidates were not timed: each is the candidate itself

CandidateT = TypeVar("CandidateT")


@dataclass(frozen=True)
class Trial(Generic[CandidateT]):
    """A candidate and what became of it, in words.

    `step_s` is seconds a step (None: not timed), `startup_s` seconds until the first step was done, compiling included,
    `agreement` the largest relative distance of its losses from the reference's (None: not compared).
    """

    candidate: CandidateT
    verdict: str
    step_s: float | None = None
    startup_s: float = 0.0
    agreement: float | None = None

    def total_s(self, num_steps: int) -> float | None:
        """Seconds of `num_steps` steps, compiling included."""
        return None if self.step_s is None else self.startup_s + num_steps * self.step_s


@dataclass(frozen=True)
class Plan(Generic[CandidateT]):
    """What was tried, what was chosen and why.

    `key` says what it was made for, `tolerance` how far losses may be from those of the reference, `environment` which
    settings of the process it was measured under.
    """

    key: str
    candidates: tuple[Trial[CandidateT], ...]
    chosen: CandidateT
    reason: str
    tolerance: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    version: int = VERSION

    def to_json(self) -> JsonObject:
        """The plan as JSON."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, values: JsonObject, make: Callable[..., CandidateT]) -> Plan[CandidateT]:
        """The plan that `to_json` gave, of this or an earlier version; `make` is given a candidate's fields.

        Raises `StateError` when its version is unknown or something is missing.
        """
        version = values.get("version") if isinstance(values, dict) else None
        if version not in (VERSION, _BARE_VERSION):
            raise StateError(f"the plan must have version {VERSION}, got {version!r}; start a new run")
        try:
            trials = tuple(_trial(trial, version, make) for trial in values["candidates"])
            return cls(**{**values, "candidates": trials, "chosen": make(**values["chosen"]), "version": VERSION})
        except (KeyError, TypeError) as error:
            raise StateError(f"the plan must be one that corelane wrote, got {error}; remove its file") from error


def key_of(facts: Mapping[str, Any]) -> str:
    """The key of a plan for `facts`, JSON values: 32 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _trial(values: JsonObject, version: int, make: Callable[..., CandidateT]) -> Trial[CandidateT]:
    if version == _BARE_VERSION:
        return Trial(make(**values), "fixed, not timed")
    return Trial(**{**values, "candidate": make(**values["candidate"])})
