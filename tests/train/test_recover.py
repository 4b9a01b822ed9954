"""The trainer's process, started again after a crash: real children that crash, finish, fail and are stopped."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corelane.core.clock import SystemClock
from corelane.machine.backoff import ExponentialBackoff
from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.recover import FaultTolerantTrainer


def supervise(
    tmp_path: Path, script: str, *, max_retries: int = 3, should_stop: Callable[[], bool] = lambda: False
) -> tuple[int, list[str], str]:
    """Run `script` under the trainer: exit code, the arguments of each start, the log.

    The script finds the run's folder in `run`, and in `number` how often it was started before.
    """
    prelude = (
        "import os, pathlib, signal, sys, time; run = pathlib.Path(sys.argv[1]); starts = run / 'starts';"
        "number = len(starts.read_text().splitlines()) if starts.exists() else 0;"
        "starts.open('a').write(' '.join(sys.argv[2:]) + chr(10));"
    )
    log = io.StringIO()
    with SystemLogger(stream=log) as logger:
        trainer = FaultTolerantTrainer(
            TrainConfig(max_retries=max_retries),
            argv=[sys.executable, "-c", prelude + "\n" + script, str(tmp_path)],
            directory=tmp_path,
            logger=logger,
            clock=SystemClock(),
            should_stop=should_stop,
            retry_policy=ExponentialBackoff(max_retries, initial_s=0.01, jitter_s=0.0),
        )
        code = trainer.train_with_recovery()
    return code, (tmp_path / "starts").read_text().splitlines(), log.getvalue()


def test_a_crash_is_followed_by_a_resume(tmp_path: Path) -> None:
    """Killed twice, as for memory, then well: three starts, the later ones with --resume, and exit code 0."""
    code, starts, log = supervise(tmp_path, "if number < 2: os.kill(os.getpid(), signal.SIGKILL)")
    assert code == 0
    assert starts == ["", "--resume", "--resume"]
    assert log.count("trainer_restarts") == 2
    assert "out of memory" in log


def test_retries_without_progress_are_used_up(tmp_path: Path) -> None:
    """A crash at the same place each time ends after `max_retries` restarts, with the child's code."""
    code, starts, log = supervise(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)", max_retries=2)
    assert code == 128 + signal.SIGSEGV
    assert len(starts) == 3
    assert "trainer_given_up" in log


def test_progress_renews_the_retries(tmp_path: Path) -> None:
    """Five crashes with a new checkpoint before each are survived with one retry."""
    script = (
        "(run / 'checkpoints' / str(number)).mkdir(parents=True)\nif number < 5: os.kill(os.getpid(), signal.SIGKILL)"
    )
    code, starts, _ = supervise(tmp_path, script, max_retries=1)
    assert code == 0
    assert len(starts) == 6


@pytest.mark.parametrize("code", [0, 2, 75])
def test_an_end_that_would_repeat_is_passed_on(tmp_path: Path, code: int) -> None:
    """Success, the user's error and a saved stop are answers, not crashes."""
    assert supervise(tmp_path, f"sys.exit({code})")[:2] == (code, [""])


def test_a_request_to_stop_is_passed_on(tmp_path: Path) -> None:
    """The child gets SIGTERM, has the time it needs to save, and is not started again."""
    script = (
        "signal.signal(signal.SIGTERM, lambda *_: ((run / 'saved').touch(), sys.exit(75)))\n"
        "(run / 'ready').touch()\nsignal.pause()"
    )
    code, starts, _ = supervise(tmp_path, script, should_stop=(tmp_path / "ready").exists)
    assert code == 75
    assert len(starts) == 1
    assert (tmp_path / "saved").exists()


def test_an_error_here_ends_the_child(tmp_path: Path) -> None:
    """When the waiting itself fails (a Ctrl-C without a handler), the child does not live on."""

    def interrupt() -> bool:
        if (tmp_path / "ready").exists():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        supervise(tmp_path, "(run / 'ready').touch()\nsignal.pause()", should_stop=interrupt)
