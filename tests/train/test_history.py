"""metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from corelane.train.history import History


def test_a_reset_puts_the_file_back(tmp_path: Path) -> None:
    """What was written after the point of the reset, a torn line included, is gone; the next line follows directly."""
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    history.reset()
    history.add("step", {"step": 1, "loss": 0.1})
    saved = history.content
    history.add("step", {"step": 2, "loss": 0.2})
    with path.open("ab") as file:
        file.write(b'{"kind": "st')

    resumed = History(path)
    resumed.reset(saved)
    resumed.add("epoch", {"step": 2, "loss": 0.1 + 0.2})
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [("step", 1), ("epoch", 2)]
    assert lines[1]["loss"] == 0.1 + 0.2
    assert resumed.content == path.read_bytes()
    assert [entry["step"] for entry in resumed.entries("step")] == [1]
