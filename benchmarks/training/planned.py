"""The plan of a case, in a process of its own: `python -m benchmarks.training.planned CASE DATA FILE`.

Prints `{"reason": ...}`, why the plan is what it is.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from benchmarks.training.cases import CASES
from benchmarks.training.data import raw
from benchmarks.training.ours import config_of, own_module, scratch

NUM_EPOCHS = 1


def main(name: str, data: str, file: str) -> None:
    """Plan a run and leave its plan at `file`."""
    from corelane import app

    case = CASES[name]
    with scratch() as folder:
        config = config_of(case, NUM_EPOCHS, cache=Path(folder, "cache"))
        columns, runs = raw(case, Path(data)), Path(folder, "runs")
        finished = app.train(config, data=columns, model=own_module(case), runs=runs, quiet=True)
        shutil.copyfile(finished.directory / "plan.json", file)
    print(json.dumps({"reason": json.loads(Path(file).read_bytes())["reason"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
