"""One engine's own process: trains one case and prints `{"rates": [...]}`, the examples per second of every epoch.

`python -m benchmarks.training.engine ENGINE CASE DATA EPOCHS PLAN`, where ENGINE is `corelane` or a peer. It has the
first two processors to itself that it may use, on machines with more.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from benchmarks.measure import OURS
from benchmarks.training.cases import CASES, NUM_THREADS, Work


def module_of(engine: str) -> str:
    """The module that runs `engine`."""
    return "benchmarks.training.ours" if engine == OURS else f"benchmarks.training.peers.{engine.replace('-', '_')}"


def main(engine: str, case: str, data: str, num_epochs: str, plan: str) -> None:
    """Run and print."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_THREADS])  # JAX has no other bound for its threads
    work = Work(Path(data), int(num_epochs), Path(plan))
    rates = importlib.import_module(module_of(engine)).run(CASES[case], work)
    print(json.dumps({"rates": rates}))


if __name__ == "__main__":
    main(*sys.argv[1:])
