"""A terminal that is closed while the run is in it, as an SSH session that breaks off: a request to stop."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.faults.training_command import TIMEOUT_S, all_gone, command, last_beat, run, wait_until, write_project


@pytest.mark.parametrize("options", [(), ("--watch",)])
def test_a_terminal_that_is_closed_stops_the_run_with_its_state_saved(tmp_path: Path, options: tuple[str, ...]) -> None:
    """B1: The step is finished and saved, no process is left, and --resume goes on from there."""
    write_project(tmp_path)
    argv = [word for word in command(tmp_path, *options, "--set", "train.save_interval=100000") if word != "--json"]
    master, slave = pty.openpty()
    argv = ["setsid", "--ctty", *argv]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        wait_until(lambda: last_beat(tmp_path).step > 60, process, "some steps")  # type: ignore[arg-type]
        os.close(master)
        process.wait(timeout=TIMEOUT_S)
    assert all_gone(str(tmp_path))
    directory = tmp_path / "runs/run-001"
    assert json.loads((directory / "error.json").read_text())["code"] == "run_interrupted"
    (saved,) = (directory / "checkpoints").glob("[0-9]*")
    assert int(saved.name) > 60
    assert run(tmp_path, "--resume").returncode == 0
