"""The trainer's process, started again after a crash: real children that crash, hang, finish, fail and are stopped."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corelane.core.clock import SystemClock
from corelane.core.errors import CrashLoopError, OutOfMemoryError
from corelane.machine.backoff import ExponentialBackoff
from corelane.machine.health import EXIT_NO_MEMORY
from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.heartbeat import FILE
from corelane.train.micro_batch import recorded_rows
from corelane.train.recover import RECORD, FaultTolerantTrainer, read_restarts
from corelane.train.suspects import read_suspects

AT_STEP_6 = (
    "from corelane.train.heartbeat import Heartbeat\n"
    "heart = Heartbeat(run / 'heartbeat')\n"
    "heart.enter('train'); heart.beat(5, 1, 2); heart.tell_micro_batch(16)\n"
)


def supervise(
    tmp_path: Path,
    script: str,
    *,
    max_retries: int = 3,
    should_stop: Callable[[], bool] = lambda: False,
    should_leave: Callable[[], bool] = lambda: False,
    before_start: Callable[[], None] = lambda: None,
    **settings: Any,
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
            TrainConfig(max_retries=max_retries, **settings),
            argv=[sys.executable, "-c", prelude + "\n" + script, str(tmp_path)],
            directory=tmp_path,
            logger=logger,
            clock=SystemClock(),
            should_stop=should_stop,
            should_leave=should_leave,
            before_start=before_start,
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
    assert [restart.phase for restart in read_restarts(tmp_path)] == ["start", "start"]
    assert not (tmp_path / FILE).exists()


def test_retries_without_progress_are_used_up(tmp_path: Path) -> None:
    """A crash at the same place each time ends after `max_retries` restarts, with the child's code."""
    code, starts, log = supervise(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)", max_retries=2)
    assert code == 128 + signal.SIGSEGV
    assert len(starts) == 3
    assert "trainer_given_up" in log


def test_progress_renews_the_retries(tmp_path: Path) -> None:
    """Five crashes with a new checkpoint before each are survived with one retry."""
    script = (
        "from corelane.store.bundle import write_bundle\n"
        "with write_bundle(run / 'checkpoints' / str(number), 'checkpoint'): pass\n"
        "if number < 5: os.kill(os.getpid(), signal.SIGKILL)"
    )
    code, starts, _ = supervise(tmp_path, script, max_retries=1)
    assert code == 0
    assert len(starts) == 6


def test_a_broken_checkpoint_is_no_progress(tmp_path: Path) -> None:
    """What the next start cannot go on from does not renew the retries."""
    script = "(run / 'checkpoints' / str(number)).mkdir(parents=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    code, starts, _ = supervise(tmp_path, script, max_retries=1)
    assert code == 128 + signal.SIGKILL
    assert len(starts) == 2


@pytest.mark.parametrize("code", [0, 2, 70, 73, 75])
def test_an_end_that_would_repeat_is_passed_on(tmp_path: Path, code: int) -> None:
    """Success, the user's error, one that would repeat, a run of another's, a saved stop: answers, not crashes."""
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


@pytest.mark.parametrize("trouble", ["while True: time.sleep(1)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_silent_child_is_ended_and_started_again(tmp_path: Path, trouble: str) -> None:
    """One that hangs and one that was stopped: its stacks are kept, the next one comes to the end."""
    script = (
        f"{AT_STEP_6}if number: sys.exit(0)\n"
        "from corelane.train.stacks import stacks_on_request\n"
        f"with stacks_on_request(run / 'logs'):\n    {trouble}\n    time.sleep(9)"
    )
    code, starts, _ = supervise(tmp_path, script, hang_timeout_s=0.5)
    assert (code, len(starts)) == (0, 2)
    (restart,) = read_restarts(tmp_path)
    assert "no sign of life for 0." in restart.reason
    assert ("SIGSTOP" in restart.reason) == ("SIGSTOP" in trouble)
    assert (restart.phase, restart.step) == ("train", 5)
    (stacks,) = (tmp_path / "logs").glob("stacks-*.txt")
    assert stacks.name in restart.reason
    assert "most recent call first" in stacks.read_text()


def test_a_child_that_never_begins_is_silent_too(tmp_path: Path) -> None:
    """Without a first sign it is ended after its limit, retries included."""
    code, starts, log = supervise(tmp_path, "time.sleep(60)", max_retries=1, hang_timeout_s=0.5)
    assert (code, len(starts)) == (137, 2)
    assert log.count("no sign of life") == 2


def test_a_torn_record_is_passed_over(tmp_path: Path) -> None:
    """A line that a full disk cut, in the middle or at the end, costs itself and not the run's result."""
    supervise(tmp_path, "if number < 2: os.kill(os.getpid(), signal.SIGSEGV)")
    whole = (tmp_path / RECORD).read_bytes().splitlines(keepends=True)
    (tmp_path / RECORD).write_bytes(whole[0] + whole[1][:20] + b"\n\xff\n3\n" + whole[1] + whole[0][:-9])
    assert [restart.step for restart in read_restarts(tmp_path)] == [0, 0]


def test_each_start_is_prepared(tmp_path: Path) -> None:
    """What one child left can be taken away before the next."""
    starts: list[bool] = []
    script = "(run / 'left').touch()\nif number < 2: os.kill(os.getpid(), signal.SIGSEGV)"
    supervise(tmp_path, script, before_start=lambda: starts.append((tmp_path / "left").exists()))
    assert starts == [False, True, True]


def test_no_memory_halves_the_pieces(tmp_path: Path) -> None:
    """Five refusals in the steps, with one retry: 16, 8, 4, 2, 1 rows, and then an error with a remedy."""
    script = AT_STEP_6.replace("16", "int((run / 'rows').read_text()) if number else 16") + (
        f"import json; file = run / 'micro_batch.json'\n"
        f"(run / 'rows').write_text(str((json.loads(file.read_text())['rows'] if number else 16) // 2))\n"
        f"sys.exit({EXIT_NO_MEMORY})"
    )
    with pytest.raises(OutOfMemoryError, match="one row"):
        supervise(tmp_path, script, max_retries=1)
    assert recorded_rows(tmp_path) == 1
    assert len(read_restarts(tmp_path)) == 4
    assert "not bit-equal" in read_restarts(tmp_path)[0].action


def test_no_memory_before_the_steps_is_tried_again_as_it_was(tmp_path: Path) -> None:
    """Smaller pieces of a batch do not help the preparation of data."""
    script = AT_STEP_6.replace("'train'", "'prepare'") + f"sys.exit({EXIT_NO_MEMORY} if number == 0 else 0)"
    assert supervise(tmp_path, script)[0] == 0
    assert recorded_rows(tmp_path) is None


def test_no_memory_for_the_last_evaluation_halves_too(tmp_path: Path) -> None:
    """The test part goes through the network in pieces of the same size."""
    script = AT_STEP_6.replace("'train'", "'finish'") + f"sys.exit({EXIT_NO_MEMORY} if number == 0 else 0)"
    assert supervise(tmp_path, script)[0] == 0
    assert recorded_rows(tmp_path) == 8


def test_a_crash_loop_is_named_and_ends(tmp_path: Path) -> None:
    """All retries end at step 6: its place is written down for the trainer, which is to name the rows; it cannot."""
    with pytest.raises(CrashLoopError, match=r"step 6, .*SIGSEGV.*batch 3 of epoch 2"):
        supervise(tmp_path, f"{AT_STEP_6}os.kill(os.getpid(), signal.SIGSEGV)", max_retries=1)
    (suspect,) = read_suspects(tmp_path)
    assert (suspect.epoch, suspect.batch, suspect.step) == (1, 2, 6)


def test_a_crash_loop_that_the_trainer_gets_past_goes_on(tmp_path: Path) -> None:
    """With quarantine the trainer finds the record, leaves out its rows, and has new retries."""
    script = f"{AT_STEP_6}if not (run / 'suspects.json').exists(): os.kill(os.getpid(), signal.SIGSEGV)"
    code, starts, _ = supervise(tmp_path, script, max_retries=1, on_crash_loop="quarantine")
    assert (code, len(starts)) == (0, 3)


def test_crashes_at_different_steps_are_no_loop(tmp_path: Path) -> None:
    """They use up the retries, and no row is under suspicion."""
    script = AT_STEP_6.replace("beat(5", "beat(number") + "os.kill(os.getpid(), signal.SIGSEGV)"
    assert supervise(tmp_path, script, max_retries=1)[0] == 139
    assert read_suspects(tmp_path) == []


def test_a_second_request_ends_the_child_at_once(tmp_path: Path) -> None:
    """Also one that does not listen."""
    script = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(run / 'ready').touch()\ntime.sleep(60)"
    is_ready = (tmp_path / "ready").exists
    code, starts, _ = supervise(tmp_path, script, should_stop=is_ready, should_leave=is_ready)
    assert (code, len(starts)) == (137, 1)
