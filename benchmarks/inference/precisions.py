"""`python -m benchmarks.inference.precisions PACKAGE GRAPH`: rows a second of a graph, in its best library.

Batches of 256 on two threads, as one stream of two or two of one. Prints `{"rows_per_s", "candidate"}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.inference.cases import INT8_BATCH

SHAPES = ((1, 2), (2, 1))
NUM_SLICES = 40  # of 10 ms, in turns


def main(package: str, graph: str) -> None:
    """Race the ways to run the graph and print the fastest."""
    from corelane.core.clock import SystemClock
    from corelane.machine.cpu import Machine
    from corelane.model.candidate import Candidate
    from corelane.model.optimize import ServingTrials
    from corelane.model.package import ModelPackage
    from corelane.model.runtimes.opening import runtimes_of

    opened = ModelPackage.load(Path(package))
    rows = opened.holdout()
    assert rows is not None
    features = rows.select([column.name for column in opened.pipeline.schema.columns])
    inputs = opened.pipeline.transform(features.combine_chunks().to_batches()[0])
    trials = ServingTrials(opened, inputs, "throughput", SystemClock(), Machine.detect().memory_bytes)
    candidates = [
        Candidate(runtime, graph, threads, streams, INT8_BATCH)
        for runtime in runtimes_of(graph, Machine.detect().isa)
        for streams, threads in SHAPES
    ]
    rigs = {candidate: trials.prepare(candidate, float("inf")) for candidate in candidates}
    times = {candidate: [rig.time(1)] for candidate, rig in rigs.items()}
    for _ in range(NUM_SLICES):
        for candidate, rig in rigs.items():
            times[candidate].append(rig.time(1))
    best = min(candidates, key=lambda candidate: min(times[candidate]))
    print(json.dumps({"rows_per_s": 1.0 / min(times[best]), "candidate": str(best)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
