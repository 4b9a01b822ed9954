"""Requests to stop as signals: the first is a flag, its echo is the same, the next is left to the earlier handling."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from corelane.machine import stop_signals
from corelane.machine.stop_signals import StopSignals, stop_requested

CHILD = """
import os, signal, sys, time
from corelane.machine import stop_signals
stop_signals.AGAIN_S = 0.05
{before}
with stop_signals.StopSignals() as signals:
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.is_asked() and not signals.is_urgent()
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
"""


@pytest.mark.parametrize("number", stop_signals.STOP_SIGNALS)
def test_the_first_sets_a_flag(number: int) -> None:
    """Nothing is raised and nothing ends; afterwards the earlier handling is back."""
    before = signal.getsignal(number)
    with stop_requested() as is_asked:
        assert not is_asked()
        os.kill(os.getpid(), number)
        assert is_asked()
    assert signal.getsignal(number) is before


def test_without_a_terminal_a_run_goes_on() -> None:
    """What `nohup` has ignored stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requested() as is_asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not is_asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_echo_is_no_second_request() -> None:
    """A service manager's signal to all processes, and the parent's to its child, come at once."""
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not signals.is_urgent()


@pytest.mark.parametrize(
    ("before", "code"),
    [("", -signal.SIGTERM), ("signal.signal(signal.SIGTERM, lambda *_: os._exit(75))", 75)],
)
def test_the_second_goes_to_the_earlier_handling(before: str, code: int) -> None:
    """The default ends the process; a command's own leaves with its code."""
    assert subprocess.run([sys.executable, "-c", CHILD.format(before=before)], check=False).returncode == code


def test_the_second_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a child to end first asks for it."""
    monkeypatch.setattr(stop_signals, "AGAIN_S", 0.0)
    with StopSignals(keeps_second=True) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.is_urgent()


def test_another_thread_has_no_signals() -> None:
    """Python handles signals in its main thread; elsewhere nothing is asked, and nothing fails."""
    seen = []

    def run() -> None:
        with stop_requested() as is_asked:
            seen.append(is_asked())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
