"""One engine's own process: runs one case once and prints what it saw as one JSON object.

`python -m benchmarks.data.engine ENGINE CASE INPUTS`, where ENGINE is `corelane` or a peer and INPUTS a JSON object of
strings: paths, a URL, a number of rows. `value` of what is printed is the case's figure, `peak_bytes` the most memory
that the process had.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.data.cases import CASES
from benchmarks.measure import OURS


def module_of(engine: str) -> str:
    """The module that runs `engine`."""
    return "benchmarks.data.ours" if engine == OURS else f"benchmarks.data.peers.{engine.replace('-', '_')}"


def peak_bytes() -> int:
    """The most memory that this process had, mapped files included. (`getrusage` counts its parent's before `exec`.)"""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def main(engine: str, case: str, inputs: str) -> None:
    """Run and print."""
    seen = importlib.import_module(module_of(engine)).run(CASES[case], json.loads(inputs))
    print(json.dumps({"peak_bytes": peak_bytes(), **seen}))


if __name__ == "__main__":
    main(*sys.argv[1:])
