"""How long a run's first step is in coming, in a process of its own, started as a trainer of `corelane train` is.

`python -m benchmarks.training.first_step DATA PLAN` trains `mlp-b64` and prints `{"seconds": ...}`.

Counted are the seconds from the end of the imports until the first step is done: rows read and found prepared, plan
read, network built, compiled code loaded where the plan has some.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.training.cases import CASES
from benchmarks.training.data import raw
from benchmarks.training.ours import cache_beside, config_of, scratch


def main(data: str, plan: str) -> None:
    """Train until the first step is done and print when that was."""
    from corelane import app
    from corelane.app import training  # noqa: F401  (what `app.train` imports when it is called)
    from corelane.core.errors import InterruptedRunError

    case = CASES["mlp-b64"]
    columns = raw(case, Path(data))
    config = config_of(case, 1, cache=cache_beside(Path(plan)), plan=Path(plan))
    done_s: list[float] = []

    def stop(record: object) -> None:
        del record
        done_s.append(time.perf_counter())
        signal.raise_signal(signal.SIGTERM)

    with scratch() as runs, suppress(InterruptedRunError):
        start_s = time.perf_counter()
        app.train(config, data=columns, runs=runs, quiet=True, observers=[stop])
    print(json.dumps({"seconds": done_s[0] - start_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
