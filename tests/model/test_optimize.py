"""The search for a serving plan: what is tried, and that what it chooses runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corelane.core.clock import SystemClock
from corelane.model.candidate import BATCHES, OBJECTIVES, SAFE, Candidate, Objective
from corelane.model.optimize import all_candidates, latency_passes, search, tiled
from corelane.model.package import ModelPackage, write_package
from tests.model import examples

SHAPES = ((2, 1), (1, 2), (1, 1))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plan_is_found_and_every_loser_told_why(objective: Objective, tmp_path: Path) -> None:
    """The chosen candidate was timed and is the fastest of those; each has a verdict."""
    path = write_package(tmp_path, examples.contents(examples.matrix()), lambda _: None)
    package = ModelPackage.load(path)
    inputs = package.pipeline.transform(examples.matrix().checked)
    found = search(package, inputs, objective, shapes=SHAPES, isa=(), clock=SystemClock())
    assert all(trial.verdict for trial in found.trials)
    assert found.chosen in [trial.candidate for trial in found.trials if trial.step_s is not None]
    assert ("a call" if objective == "latency" else "a row") in found.reason
    if objective == "latency":
        assert (found.chosen.batch, found.chosen.streams) == (1, 1)


def test_every_candidate_of_a_small_machine() -> None:
    """Without OpenVINO's bfloat16: libraries times shapes, times batches for throughput; latency has one stream."""
    latency = all_candidates(("fp32", "bf16"), "latency", SHAPES, ())
    assert latency[0] == SAFE
    assert {candidate.streams for candidate in latency} == {1}
    throughput = all_candidates(("fp32",), "throughput", SHAPES, ())
    num_runtimes = len({candidate.runtime for candidate in throughput})
    assert len(throughput) == num_runtimes * len(SHAPES) * len(BATCHES)


def test_latency_asks_for_graphs_first() -> None:
    """Graph and library, then threads, then the first again at so many threads."""
    first, threads, again = latency_passes(("fp32", "int8"), SHAPES, ())
    assert {candidate.graph for candidate in first.around(SAFE)} == {"fp32", "int8"}
    assert {candidate.threads for candidate in threads.around(SAFE)} == {1, 2}
    best = Candidate("onnxruntime", "int8", threads=2)
    assert {candidate.threads for candidate in again.around(best)} == {2}


def test_rows_are_repeated_to_fill_a_batch() -> None:
    """In order, over and over."""
    rows = tiled({"x": np.arange(6, dtype=np.float32).reshape(3, 2)}, 7)["x"]
    assert rows[:, 0].tolist() == [0, 2, 4, 0, 2, 4, 0]
