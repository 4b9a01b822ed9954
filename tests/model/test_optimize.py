"""The search for a serving plan: what is tried, and that what it chooses runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from corelane.core.clock import SystemClock
from corelane.data.schema import Column
from corelane.data.tensor_pipeline import TensorPipeline
from corelane.machine.process import resident_bytes
from corelane.model.candidate import BATCHES, OBJECTIVES, SAFE, Candidate, Objective
from corelane.model.description import Provenance
from corelane.model.optimize import FIRST_BATCH, MEMORY_SHARE, all_candidates, latency_passes, search, tiled
from corelane.model.package import FOREIGN, ModelPackage, PackageContents, write_package
from corelane.model.signature import TensorMeta
from corelane.model.skew import Tolerance
from tests.model import examples
from tests.model.foreign import graphs

SHAPES = ((2, 1), (1, 2), (1, 1))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_plan_is_found_and_every_loser_told_why(objective: Objective, tmp_path: Path) -> None:
    """The chosen candidate was timed and is the fastest of those; each has a verdict."""
    path = write_package(tmp_path, examples.contents(examples.matrix()), lambda _: None)
    package = ModelPackage.load(path)
    inputs = package.pipeline.transform(examples.matrix().checked)
    found = search(package, inputs, objective, shapes=SHAPES, isa=(), memory_bytes=8 << 30, clock=SystemClock())
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


def test_a_batch_that_would_not_fit_the_memory_is_not_tried(tmp_path: Path) -> None:
    """What a row takes is seen in the first batches; larger ones are told what they would need."""
    package = ModelPackage.load(write_package(tmp_path, spread_contents(), lambda _: None))
    inputs = {"x": np.zeros((4, 1), dtype=np.float32)}
    room = (4 << 30) + round(resident_bytes() / MEMORY_SHARE)  # beside what the tests before it have left
    found = search(package, inputs, "throughput", shapes=((1, 1),), isa=(), memory_bytes=room, clock=SystemClock())
    refused = [trial.candidate.batch for trial in found.trials if "for which is no room" in trial.verdict]
    assert 1024 in refused
    assert FIRST_BATCH not in refused


def spread_contents() -> PackageContents:
    """A network that makes four megabytes of each row and adds them up."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["wide"]), helper.make_node("ReduceSum", ["wide", "last"], ["y"])]
    weights = [numpy_helper.from_array(np.ones((1, 1 << 20), np.float32), "w")]
    weights.append(numpy_helper.from_array(np.array([1]), "last"))
    ends = [("x", graphs.FLOAT, ("n", 1))], [("y", graphs.FLOAT, ("n", 1))]
    facts = {"corelane": "0", "torch": "", "onnx": "0", "data_fingerprint": {}, "config_digest": ""}
    return PackageContents(
        name="spread",
        pipeline=TensorPipeline((Column("x", "array", (1,), nullable=False, dtype="float32"),)),
        architecture={"net": FOREIGN},
        weights=None,
        graphs={"fp32": graphs.content(graphs.model(nodes, *ends, weights))},
        tolerances={"fp32": Tolerance(1e-4, 1e-3)},
        metrics={},
        provenance=Provenance(**facts, created="2026-01-01T00:00:00Z"),
        golden=None,
        calibration=None,
        holdout=None,
        outputs=(TensorMeta("y", "FP32", (-1, 1)),),
    )
