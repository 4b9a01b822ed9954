"""A process says where its threads stand when asked, also a stopped one; without trouble no file is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corelane.core.clock import SystemClock
from corelane.train.stacks import ask_for_stacks, stacks_on_request

SCRIPT = """
import pathlib, sys, threading
from corelane.train.stacks import stacks_on_request
def waits_for_a_lock(lock):
    lock.acquire()
with stacks_on_request(pathlib.Path(sys.argv[1])):
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=waits_for_a_lock, args=(lock,), daemon=True).start()
    print("ready", flush=True)
    lock.acquire()
"""


@pytest.mark.parametrize("is_stopped", [False, True])
def test_all_threads_are_written(tmp_path: Path, is_stopped: bool) -> None:
    """Both threads of a deadlock are in the file."""
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if is_stopped:
                process.send_signal(signal.SIGSTOP)
            path = ask_for_stacks(process.pid, tmp_path, SystemClock())
        finally:
            process.kill()
    assert path is not None
    assert path.read_text().count("most recent call first") == 2
    assert "waits_for_a_lock" in path.read_text()


def test_no_trouble_no_file(tmp_path: Path) -> None:
    """An empty file does not stay behind."""
    with stacks_on_request(tmp_path / "logs"):
        assert len(list((tmp_path / "logs").iterdir())) == 1
    assert list((tmp_path / "logs").iterdir()) == []


def test_a_process_that_is_gone_says_nothing(tmp_path: Path) -> None:
    """No file, and no error."""
    process = subprocess.Popen(["true"])
    process.wait()
    assert ask_for_stacks(process.pid, tmp_path, SystemClock()) is None
    assert process.pid != os.getpid()
