"""`python -m benchmarks.inference.plans NET OBJECTIVE`: the plan that a search finds, beside the best there is.

Prints `{"chosen_s", "best_s", "chosen", "best"}`: seconds a step, of the same exhaustive race.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.inference import minilm
from benchmarks.inference.cases import MINILM, NETS
from benchmarks.inference.packages import untrained

MINILM_BATCHES = (1, 8)  # that are timed at length, beside the chosen one: 1,024 sentences take half a minute


def main(net: str, objective: str) -> None:
    """Package, search, exhaust, print."""
    from corelane.app import optimize
    from corelane.core.clock import SystemClock
    from corelane.machine.cpu import Machine
    from corelane.machine.placement import stream_shapes
    from corelane.model.candidate import BATCHES
    from corelane.model.optimize import exhaust, search
    from corelane.model.package import ModelPackage

    with TemporaryDirectory(prefix="corelane-benchmark-") as folder:
        path = minilm.package(Path(folder)) if net == MINILM else untrained(NETS[net], Path(folder))
        # The answers of an untrained network are near a tie: any graph is good enough to be timed.
        answer = optimize(path, max_accuracy_drop=0.99, cache=Path(folder, "cache"))
        package = ModelPackage.load(Path(answer["package"]))
        rows = package.holdout()
        assert rows is not None
        features = rows.select([column.name for column in package.pipeline.schema.columns])
        inputs = package.pipeline.transform(features.combine_chunks().to_batches()[0])
        machine, clock = Machine.detect(), SystemClock()
        shapes = stream_shapes(machine, machine.thread_budget)
        given = {"shapes": shapes, "isa": machine.isa, "memory_bytes": machine.memory_bytes, "clock": clock}
        found = search(package, inputs, objective, **given)
        batches = {*MINILM_BATCHES, found.chosen.batch} if net == MINILM else BATCHES
        best = exhaust(package, inputs, objective, **given, batches=batches)
    times = {trial.candidate: trial.step_s for trial in best.trials}
    told = {"chosen": str(found.chosen), "best": str(best.chosen)}
    print(json.dumps({"chosen_s": times[found.chosen], "best_s": times[best.chosen], **told}))


if __name__ == "__main__":
    main(*sys.argv[1:])
