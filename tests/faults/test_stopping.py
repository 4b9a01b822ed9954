"""SIGTERM and Ctrl-C: when they come decides what is saved; nothing is left behind, and nothing storms the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from corelane.machine.stop_signals import AGAIN_S
from corelane.store.bundle import verify_bundle
from tests.faults.training_command import (
    all_gone,
    command,
    final_files,
    last_beat,
    processes_of,
    run,
    start,
    wait_until,
    write_project,
)

RESUMABLE = 75
LONG = "train.epochs=100000"


def shared_memory() -> set[Path]:
    return set(Path("/dev/shm").iterdir())


def left_in_shared_memory(before: set[Path]) -> set[Path]:
    """What is there since and is in nobody's memory: other programs of the machine may use theirs meanwhile."""
    in_use = ""
    for path in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            in_use += path.read_text(errors="replace")
    return {path for path in shared_memory() - before if str(path) not in in_use}


def stopped(folder: Path, process: subprocess.Popen[str], number: int) -> str:
    """Send the signal and wait for the end; what was said on standard error."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60.0)
    assert "Traceback" not in errors
    assert all_gone(str(folder)), "no process may be left"
    return errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_the_middle_of_an_epoch(tmp_path: Path, number: int) -> None:
    """B1: The step is finished and saved, the code says resumable; the resumed run ends with a calm run's bytes."""
    write_project(tmp_path)
    assert run(tmp_path, runs="calm").returncode == 0
    process = start(tmp_path, command(tmp_path))
    wait_until(lambda: last_beat(tmp_path).step % 30 > 12, process, "the middle of an epoch")
    stopped(tmp_path, process, number)
    assert process.returncode == RESUMABLE
    assert not (tmp_path / "runs/run-001/result.json").exists()
    assert run(tmp_path, "--resume").returncode == 0
    assert final_files(tmp_path, "runs/run-001") == final_files(tmp_path, "calm/run-001")


@pytest.mark.parametrize("whom", ["command", "trainer"])
def test_a_second_request_leaves_at_once(tmp_path: Path, whom: str) -> None:
    """B1: With a trainer that cannot answer, or straight to one that can: it ends, and older checkpoints are whole."""
    write_project(tmp_path)
    process = start(tmp_path, command(tmp_path, "--set", LONG))
    wait_until(lambda: last_beat(tmp_path).step > 60, process, "some steps")
    trainer = last_beat(tmp_path).pid
    if whom == "command":
        os.kill(trainer, signal.SIGSTOP)  # it will not answer the first request
    to_end = process.pid if whom == "command" else trainer
    os.kill(to_end, signal.SIGTERM)
    time.sleep(3.0 * AGAIN_S)  # a busy machine may hand the first one over late
    with suppress(ProcessLookupError):
        os.kill(to_end, signal.SIGTERM)
    process.communicate(timeout=60.0)
    assert process.returncode == RESUMABLE
    assert all_gone(str(tmp_path))
    checkpoints = list((tmp_path / "runs/run-001/checkpoints").glob("[0-9]*"))
    assert checkpoints
    for checkpoint in checkpoints:
        verify_bundle(checkpoint, "checkpoint")


def test_a_request_to_every_process_is_one(tmp_path: Path) -> None:
    """B1: A service manager signals command and trainer together, and the command passes its own on: still orderly."""
    write_project(tmp_path)
    process = start(tmp_path, command(tmp_path, "--set", LONG))
    wait_until(lambda: last_beat(tmp_path).step > 60, process, "some steps")
    trainer = last_beat(tmp_path).pid
    os.kill(trainer, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60.0)
    assert process.returncode == RESUMABLE
    error = (tmp_path / "runs/run-001/error.json").read_text()
    assert "its state is saved at step" in error


PHASES = {
    "import": 0.3,
    "start": 1.5,
    "prepare": None,
    "plan": None,
    "train": None,
    "evaluate": None,
    "save": None,
    "finish": None,
}


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_in_every_phase(tmp_path: Path, phase: str) -> None:
    """B11: No traceback, no process, no shared memory is left, and the code says resumable or done."""
    write_project(tmp_path, num_rows=20_000 if phase == "prepare" else 600)
    before = shared_memory()
    epochs = "train.epochs=2" if phase == "finish" else LONG
    plan = "machine.plan=auto" if phase == "plan" else "machine.plan=eager"
    settings = ["--set", epochs, "--set", "train.save_interval=1", "--set", plan]
    process = start(tmp_path, command(tmp_path, *settings))
    delay_s = PHASES[phase]
    if delay_s is not None:
        time.sleep(delay_s)
    else:
        wait_until(lambda: last_beat(tmp_path).phase == phase, process, phase)
    errors = stopped(tmp_path, process, signal.SIGINT)
    assert process.returncode in {0, RESUMABLE}, errors
    assert len(errors.splitlines()) <= 2
    assert not left_in_shared_memory(before)


def test_ctrl_c_while_packaging(tmp_path: Path) -> None:
    """B11: The trained run is whole; no half package, no process and no shared memory is left."""
    write_project(tmp_path)
    before = shared_memory()
    argv = command(tmp_path, "--set", "train.epochs=1", "--packages", str(tmp_path / "packages"), package=True)
    process = start(tmp_path, argv)
    wait_until((tmp_path / "runs/run-001/result.json").exists, process, "the result")
    time.sleep(0.3)
    stopped(tmp_path, process, signal.SIGINT)
    assert process.returncode in {0, RESUMABLE}
    if process.returncode == RESUMABLE:
        assert not list(tmp_path.glob("packages/*/[0-9]*"))
    assert not left_in_shared_memory(before)
    assert not processes_of(str(tmp_path))
