"""SIGKILL in a run whose steps are compiled, then a new process: the end is that of a run nobody touched.

What is compiled lies in a folder that all processes share, as `app` has it in the cache directory.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from corelane.train.plan import Candidate, Engine
from tests.faults import training_command as training
from tests.train.examples import fixed_plan

CONFIG = """
name: run
data: {source: {type: filesystem, path: rows.csv}, target: kind, split: {test: 0.1}}
model: {net: mlp, hidden: [32]}
train: {epochs: 60, batch_size: 16, save_interval: 25}
machine: {threads: 1, cache: cache, plan: plan.json}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="what is compiled needs g++")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["compiled", "graph"])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, engine: Engine) -> None:
    """Weights, optimiser and history of a killed and resumed run are those of one left alone, byte by byte."""
    training.write_project(tmp_path, config=CONFIG)
    (tmp_path / "plan.json").write_text(json.dumps(fixed_plan(Candidate(threads=1, engine=engine)).to_json()))
    calm = training.run(tmp_path, runs="calm")
    assert calm.returncode == 0, calm.stderr
    process = training.start(tmp_path, training.command(tmp_path))
    training.wait_until(lambda: training.last_beat(tmp_path).step >= 60, process, "step 60")
    process.kill()
    process.communicate()
    assert training.all_gone(str(tmp_path))
    assert not (tmp_path / "runs/run-001/result.json").exists()
    resumed = training.run(tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert training.final_files(tmp_path, "runs/run-001") == training.final_files(tmp_path, "calm/run-001")
