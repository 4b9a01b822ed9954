"""metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

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


@pytest.mark.needs("mount")
def test_a_full_disk_costs_nothing_but_the_file(tmp_path: Path) -> None:
    """Lines that find no room are told of once and stay in memory; with room again the file has every line."""
    told: list[str] = []
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        history = History(disk / "metrics.jsonl", tell=lambda event, _: told.append(event))
        history.reset()
        history.add("step", {"step": 0})
        with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        for step in range(1, 500):
            history.add("step", {"step": step})
        assert told == ["history_behind"]
        (disk / "ballast").unlink()
        history.add("step", {"step": 500})
        assert (disk / "metrics.jsonl").read_bytes() == history.content
        assert len(list(history.entries("step"))) == 501
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
