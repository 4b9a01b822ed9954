"""The heartbeat: what a trainer writes its watcher reads, also after the trainer's death; a full disk costs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corelane.train.heartbeat import FILE, NO_HEART, Beat, Heartbeat, heart_of, phase_beats, watched_file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Phase, place, size of a piece and process go over; each sign counts."""
    with watched_file(tmp_path) as watched, heart_of(tmp_path) as heart:
        assert watched is not None
        assert watched.read() == Beat()
        heart.enter("train")
        heart.tell_micro_batch(32)
        heart.beat(7, 1, 2)
        assert watched.read() == Beat(os.getpid(), "train", 2, 7, 1, 2, 32)
    assert not (tmp_path / FILE).exists()


def test_it_survives_the_process(tmp_path: Path) -> None:
    """Killed outright, the trainer has still said where it was."""
    script = (
        "import os, pathlib, signal, sys; from corelane.train.heartbeat import *\n"
        "with heart_of(pathlib.Path(sys.argv[1])) as heart:\n"
        "    heart.enter('train'); heart.beat(12, 0, 12); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with watched_file(tmp_path) as watched:
        assert watched is not None
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
        beat = watched.read()
        assert (beat.phase, beat.step, beat.batch) == ("train", 12, 12)
        watched.clear()
        assert watched.read() == Beat()


def test_without_a_watcher_nobody_is_told(tmp_path: Path) -> None:
    """A run that no process watches, and one whose file could not be made, train all the same."""
    with heart_of(tmp_path) as heart:
        assert heart is NO_HEART
        heart.beat(1, 0, 1)
    (tmp_path / FILE).touch()
    with heart_of(tmp_path) as heart:
        assert heart is NO_HEART


@pytest.mark.needs("mount")
def test_a_full_disk_costs_the_watch_only(tmp_path: Path) -> None:
    """No room for the file is told as such: a hole in a mapped file would kill the trainer with SIGBUS."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        with (disk / "ballast").open("wb") as file, pytest.raises(OSError, match="No space"):
            file.write(bytes(1 << 17))
        with watched_file(disk) as watched:
            assert watched is None
        assert not (disk / FILE).exists()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_every_item_of_a_phase_is_a_sign(tmp_path: Path) -> None:
    """An evaluation's batches pass through unchanged."""
    with watched_file(tmp_path) as watched:
        assert watched is not None
        assert list(phase_beats(watched, "evaluate", "abc")) == ["a", "b", "c"]
        assert (watched.read().phase, watched.read().beats) == ("evaluate", 3)


def test_the_file_of_another_watcher_stays(tmp_path: Path) -> None:
    """A watcher whose run was taken over neither cuts short nor removes its successor's file, and reads its own."""
    with watched_file(tmp_path) as first, heart_of(tmp_path) as heart:
        assert first is not None
        second = Heartbeat.make(tmp_path / FILE)
        heart.beat(7, 1, 2)
        assert (first.read().step, second.read().step) == (7, 0)
    assert (tmp_path / FILE).exists()
    second.close()
    second.remove()
    assert not (tmp_path / FILE).exists()
