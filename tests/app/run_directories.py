"""Run directories and packages as training leaves them, written in a millisecond and without torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from corelane.app.runs import ERROR_NAME, RESULT_NAME, new_run
from corelane.core.clock import ManualClock
from corelane.model.description import DESCRIPTION, Description, Graph, Provenance, write_description
from corelane.model.signature import Signature, TensorMeta
from corelane.model.skew import Tolerance
from corelane.store.bundle import write_atomic, write_bundle

CONFIG = """\
version: 1
name: {name}
seed: 7
data:
  source: {{type: filesystem, path: /data/rows.csv, storage_options: {{secret: geheim}}}}
  target: y
train: {{epochs: {epochs}}}
observe: {{metadata: "postgresql://ann:geheim@host/db"}}
"""


class RunDirectory:
    """A run that a test writes step by step."""

    def __init__(self, runs: Path, name: str = "digits", *, epochs: int = 3, created_s: float = 1000.0) -> None:
        self.path = new_run(runs, name, CONFIG.format(name=name, epochs=epochs), clock=ManualClock(created_s))
        self.step = 0

    def prepare(self, digest: str = "ab") -> None:
        facts = {"version": 1, "fingerprint": {"strength": "content", "digest": digest}, "num_rejected": 2}
        with write_bundle(self.path / "data", "run-data") as folder:
            (folder / "data.json").write_text(json.dumps(facts))
            (folder / "pipeline.json").write_text(json.dumps({"version": 2, "schema": {"columns": ["x"]}}))

    def log(self, num_lines: int = 1) -> None:
        with (self.path / "metrics.jsonl").open("a") as file:
            for _ in range(num_lines):
                self.step += 1
                entry = {"kind": "step", "step": self.step, "epoch": 0, "loss": 1 / self.step, "learning_rate": 0.1}
                file.write(json.dumps(entry) + "\n")

    def go_back(self, num_steps: int) -> None:
        """What a resume does: the history as it was some steps ago, in a new file."""
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        self.step = max(0, len(lines) - num_steps)
        write_atomic(path, b"".join(lines[: self.step]))

    def save(self, keep: int = 3) -> None:
        target = self.path / "checkpoints" / str(self.step)
        if not target.exists():
            with write_bundle(target, "checkpoint") as folder:
                (folder / "state.json").write_text(json.dumps({"counters": {"best_step": self.step - self.step % 2}}))
        steps = sorted(int(path.name) for path in target.parent.iterdir())
        for step in steps[:-keep]:
            shutil.rmtree(target.parent / str(step))

    def finish(self, **metrics: float) -> None:
        result = {
            "num_steps": self.step,
            "num_epochs": 3,
            "best_step": 2,
            "examples_per_s": 5.5,
            "seconds": {"data": 0.1},
        }
        metrics = metrics or {"validation_loss": 0.25, "test_accuracy": 0.9}
        write_atomic(self.path / RESULT_NAME, json.dumps({**result, "metrics": metrics}).encode())

    def fail(self, code: str = "loss_not_finite") -> None:
        record = {"code": code, "message": "the loss must be finite, got nan", "detail": ""}
        write_atomic(self.path / ERROR_NAME, json.dumps(record).encode())

    def trained(self) -> RunDirectory:
        """A whole finished run."""
        self.prepare()
        self.log(4)
        self.save()
        self.finish()
        return self


def publish(packages: Path, name: str = "digits", version: int = 1, **provenance: Any) -> Path:
    """A package that says what a package says, without weights."""
    tensor = TensorMeta("x", "FP32", (-1,))
    facts = {
        "corelane": "1",
        "torch": "2",
        "onnx": "1",
        "data_fingerprint": {"digest": "ab"},
        "config_digest": "0" * 64,
    }
    about = Description(
        name=name,
        version=version,
        task="classification",
        signature=Signature((tensor,), (tensor,), None),
        architecture={},
        metrics={"test_accuracy": 0.9},
        graphs={"fp32": Graph(file="graphs/fp32.onnx", tolerance=Tolerance(absolute=1e-4, relative=1e-3))},
        provenance=Provenance(**facts, created="2026-01-01T00:00:00Z", **provenance),
    )
    with write_bundle(packages / name / str(version), "package") as folder:
        write_description(folder / DESCRIPTION, about)
    return packages / name / str(version)
