"""One engine's own process: trains one case and prints `{"rates": [...]}`, the examples per second of every epoch.

`python -m benchmarks.training.engine ENGINE CASE DATA EPOCHS`, where ENGINE is `corelane` or a peer.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.measure import OURS
from benchmarks.training.cases import CASES


def module_of(engine: str) -> str:
    """The module that runs `engine`."""
    return "benchmarks.training.ours" if engine == OURS else f"benchmarks.training.peers.{engine.replace('-', '_')}"


def main(engine: str, case: str, data: str, num_epochs: str) -> None:
    """Run and print."""
    rates = importlib.import_module(module_of(engine)).run(CASES[case], Path(data), int(num_epochs))
    print(json.dumps({"rates": rates}))


if __name__ == "__main__":
    main(*sys.argv[1:])
