"""`python -m benchmarks.inference.throttled ENGINE GRAPH SECONDS GROUP`: calls at a fixed rate under the group's quota.

A call's time runs from when it was due: one that comes while the process stands still waits. `corelane` runs the graph
on the thread budget, which is the quota's; `ort-default` is ONNX Runtime's session with nothing set. Prints
`{"p99_s", "calls", "periods", "throttled"}`, the periods being those of the calls.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.inference.cases import CALLS_PER_S, NUM_FEATURES, THROTTLED_BATCH
from benchmarks.inference.quota import throttled
from benchmarks.measure import OURS

WARM_UP_S = 1.0


def main(engine: str, graph: str, seconds: str, group: str) -> None:
    """Call until the time is over and print."""
    call = _ours(Path(graph)) if engine == OURS else _ort_default(Path(graph))
    rows = np.random.default_rng(0).normal(size=(THROTTLED_BATCH, NUM_FEATURES)).astype(np.float32)
    _calls(partial(call, rows), WARM_UP_S)
    before = throttled(Path(group))
    times = _calls(partial(call, rows), float(seconds))
    periods, stopped = (after - first for after, first in zip(throttled(Path(group)), before, strict=True))
    print(json.dumps({"p99_s": float(np.percentile(times, 99)), "periods": periods, "throttled": stopped}))


def _calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call from when it was due."""
    times = []
    start = time.perf_counter()
    for number in range(round(seconds * CALLS_PER_S)):
        due = start + number / CALLS_PER_S
        if (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        call()
        times.append(time.perf_counter() - due)
    return times


def _ours(graph: Path):  # type: ignore[no-untyped-def]
    from corelane.machine.cpu import Machine
    from corelane.machine.placement import stream_shapes
    from corelane.model.candidate import Candidate
    from corelane.model.runtimes.graph_file import read_graph
    from corelane.model.runtimes.opening import open_runtime

    machine = Machine.detect()
    if machine.thread_budget == 1:
        os.sched_setaffinity(0, machine.logical_cpus[:1])
    threads = max(threads for _, threads in stream_shapes(machine, machine.thread_budget))
    runtime = open_runtime(read_graph(graph), Candidate("onnxruntime", "fp32", threads=threads))
    return lambda rows: runtime.run({"features": rows})


def _ort_default(graph: Path):  # type: ignore[no-untyped-def]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return lambda rows: session.run(None, {"features": rows})


if __name__ == "__main__":
    main(*sys.argv[1:])
