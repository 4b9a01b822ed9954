"""What goes wrong around a trainer and must not reach its weights: log disks, clocks, mistakes, worker counts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corelane.data.order import epoch_order
from corelane.data.processor import CPUDataProcessor
from corelane.observe.log import SystemLogger
from tests.faults.training_command import run as run_command
from tests.faults.training_command import start, wait_until, write_project
from tests.faults.wall_clock import WallClock
from tests.train.examples import classification, dropout_net, run, weights


@pytest.mark.needs("mount")
def test_a_full_disk_for_logs_changes_no_byte(tmp_path: Path) -> None:
    """B8: Every step is taken, every lost line is counted, and the weights are those of a run with room."""
    calm, full = dropout_net(), dropout_net()
    run(tmp_path / "calm", classification(), calm)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        with SystemLogger(directory=disk, terminal_level="critical") as logger:
            with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            run(tmp_path / "full", classification(), full, logger=logger, log_interval=1)
            assert logger.num_dropped > 0
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert weights(calm) == weights(full)


DAY_S = 86_400
CLOCK_CHILD = """
import pathlib, sys
from tests.train.examples import classification, dropout_net, run
run(pathlib.Path(sys.argv[1]), classification(), dropout_net(), epochs=int(sys.argv[2]), resume="--resume" in sys.argv)
"""


@pytest.mark.needs("gcc")
@pytest.mark.timeout(300)
def test_a_wall_clock_that_jumps(tmp_path: Path) -> None:
    """B9: A day forth, two days back: durations stay true, and the newest checkpoint is the one of the highest step."""
    clock, directory = WallClock(tmp_path), tmp_path / "run"
    environment = {**os.environ, **clock.environment}
    argv = [sys.executable, "-c", CLOCK_CHILD, str(directory), "150"]
    began_s = time.monotonic()
    process = start(Path(__file__).parents[2], argv, environment)
    for jump, step in ((DAY_S, 20), (-DAY_S, 60)):
        wait_until(
            lambda step=step: (directory / f"checkpoints/{step}").exists() or newest(directory) > step,
            process,
            str(jump),
        )
        clock.set(jump)
    output = process.communicate(timeout=120.0)
    assert process.returncode == 0, output
    seconds = json.loads((directory / "result.json").read_text())["seconds"]
    assert all(value >= 0.0 for value in seconds.values())
    assert sum(seconds.values()) <= time.monotonic() - began_s
    stamps = {path.name: path.stat().st_mtime for path in (directory / "checkpoints").glob("[0-9]*")}
    assert stamps
    assert newest(directory) == 150 * 8
    assert subprocess.run([*argv, "--resume"], cwd=Path(__file__).parents[2], env=environment, check=True)
    assert newest(directory) == 150 * 8


def newest(directory: Path) -> int:
    return max((int(path.name) for path in (directory / "checkpoints").glob("[0-9]*")), default=0)


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ("epochs: 40", "epoch: 40", "epochs"),
        ("batch_size: 16", "batch_size: 0", "greater than or equal to 1"),
        ("save_interval: 25", "save_interval: 25, save_interval: 30", "twice"),
        ("hidden: [32]", "hiden: [32]", "hidden"),
    ],
)
@pytest.mark.timeout(120)
def test_a_typing_mistake_is_refused_before_data_are_read(tmp_path: Path, before: str, after: str, hint: str) -> None:
    """B12: The line, what is allowed and the nearest name; the source need not even exist, and no run is made."""
    write_project(tmp_path)
    (tmp_path / "rows.csv").unlink()
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(before, after))
    done = run_command(tmp_path)
    assert done.returncode == 2
    assert hint in json.loads(done.stdout)["error"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("num_workers", [0, 2, 5])
def test_the_order_does_not_depend_on_the_workers(num_workers: int) -> None:
    """B13: Batches are the same, in the same order, however many threads prepare them."""
    part = classification().train
    order = epoch_order(7, 1, part.num_rows, part.row_bytes)
    seen = []
    for count in (1, num_workers):
        with CPUDataProcessor(num_workers=count) as processor:
            batches = processor.batches(part, order, 32)
            seen.append([[array.tobytes() for array in inputs.values()] for inputs, _ in batches])
    assert seen[0] == seen[1]
