"""One way to run a package's network for answers: which graph, in which library, on how many threads, how many rows.

Plans of serving are made of these; `optimize.py` searches them, `runtimes/opening.py` makes a runtime of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from corelane.core.errors import StateError

RuntimeName: TypeAlias = Literal["onnxruntime", "openvino", "torch"]
Objective: TypeAlias = Literal["latency", "throughput"]
"""What a plan is for: the answer to one row as soon as possible, or as many rows a second as possible."""

BATCHES = (1, 8, 32, 64, 128, 256, 512, 1024)
"""Rows a call that a plan for throughput may have."""

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
_TITLES: dict[RuntimeName, str] = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}


@dataclass(frozen=True)
class Candidate:
    """Run `graph` of a package in `runtime`: `streams` calls at a time, each of `batch` rows on `threads` threads.

    Raises `StateError` when a field says what this release does not know.
    """

    runtime: RuntimeName
    graph: str
    threads: int = 1
    streams: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        if self.runtime not in _TITLES:
            raise StateError(
                f"runtime of a plan must be one of {', '.join(_TITLES)}, got {self.runtime!r}; "
                "use a plan of this release"
            )
        for name in ("threads", "streams", "batch"):
            if getattr(self, name) < 1:
                raise StateError(f"{name} of a plan must be at least 1, got {getattr(self, name)}; search again")

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        streams = f"{self.streams} streams x {threads}" if self.streams > 1 else threads
        return f"{self.graph} in {_TITLES[self.runtime]}, {streams}, batch {self.batch}"

    @property
    def num_threads(self) -> int:
        """Threads that compute at the same time."""
        return self.threads * self.streams


SAFE = Candidate("onnxruntime", "fp32")
"""What runs on every machine at once, before anything was measured."""
