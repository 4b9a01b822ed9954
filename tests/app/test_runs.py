"""Run directories are made once, found again, and carry a child's error to its parent."""

import errno
import json
import os
from pathlib import Path

import pytest

from corelane.app.runs import (
    HOLDER_NAME,
    LOCK_NAME,
    find_run,
    held,
    is_held,
    new_run,
    open_run_data,
    raise_recorded_error,
    recorded_errors,
)
from corelane.core.clock import SystemClock
from corelane.core.errors import (
    ConfigError,
    DataError,
    InterruptedRunError,
    OverloadedError,
    RunLockedError,
    WorkerLostError,
)
from corelane.machine.exit_codes import worker_exit_code
from corelane.machine.health import EXIT_OK
from corelane.store.lease import Lease


def test_runs_are_numbered_and_the_newest_is_found(tmp_path: Path) -> None:
    """Each start makes a folder of its own; nothing is overwritten."""
    first, second = new_run(tmp_path, "a", "name: a"), new_run(tmp_path, "a", "name: a")
    assert (first.name, second.name) == ("a-001", "a-002")
    new_run(tmp_path, "a-002", "name: a-002")
    assert find_run(tmp_path, "a") == second


def test_a_run_that_never_began_is_no_run(tmp_path: Path) -> None:
    """A folder without a configuration, as nothing of ours leaves behind, is not taken for a run."""
    (tmp_path / "a-001").mkdir()
    assert find_run(tmp_path, "a") is None


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    """A7: who comes second is told so at once, and by whom; it may go on when the first has ended."""
    run = new_run(tmp_path, "a", "name: a")
    named = rf"twice at a time, but it is locked by pid {os.getpid()} on {os.uname().nodename} since 20\d\d-"
    with held(run), pytest.raises(ConfigError, match=named), held(run):
        pass
    with held(run):
        pass


def test_a_run_of_another_host_is_left_alone(tmp_path: Path) -> None:
    """A7: where a kernel's locks do not reach another host the trainer's lease does; nothing is written."""
    run = new_run(tmp_path, "a", "name: a")
    (run / "lock").mkdir()
    holder = {"pid": 7, "host": "far", "machine": "far", "boot": "x", "since_s": 1e9}
    (run / "lock/3.json").write_text(json.dumps(holder))
    before = set(run.rglob("*"))
    with pytest.raises(RunLockedError, match="locked by pid 7 on far since 2001-09-09"), held(run):
        pass
    assert set(run.rglob("*")) == before


def test_a_file_in_place_of_the_runs_folder_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be made is the user's to mend."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="directory that can be written"):
        new_run(tmp_path / "runs", "a", "name: a")


@pytest.mark.parametrize("error", [DataError("no rows", detail="x"), InterruptedRunError("stopped")])
def test_a_childs_error_is_the_parents(tmp_path: Path, error: Exception) -> None:
    """The class, the message and the detail survive the process border."""
    with pytest.raises(type(error)), recorded_errors(tmp_path):
        raise error
    with pytest.raises(type(error), match=str(error)):
        raise_recorded_error(tmp_path, 2)


def test_every_error_of_ours_crosses_the_border(tmp_path: Path) -> None:
    """Errors with fields of their own cross it too."""
    with pytest.raises(OverloadedError), recorded_errors(tmp_path):
        raise OverloadedError("full", retry_after_s=2.0)
    with pytest.raises(OverloadedError, match="full"):
        raise_recorded_error(tmp_path, 75)


def test_an_old_error_does_not_outlive_a_good_start(tmp_path: Path) -> None:
    """A run that failed once and then ended well reports no error."""
    with pytest.raises(DataError), recorded_errors(tmp_path):
        raise DataError("no rows")
    with recorded_errors(tmp_path):
        pass
    raise_recorded_error(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_an_error_that_was_left_behind_fails_nothing(tmp_path: Path) -> None:
    """The exit code comes first: a child that ended well has ended well."""
    with pytest.raises(DataError), recorded_errors(tmp_path):
        raise DataError("no rows")
    raise_recorded_error(tmp_path, EXIT_OK)


def test_a_run_of_anothers_is_left_as_it_is(tmp_path: Path) -> None:
    """A child that lost its run to another host writes nothing into it; its exit code tells the parent."""
    with pytest.raises(RunLockedError) as raised, recorded_errors(tmp_path):
        raise RunLockedError("the run must be ours")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunLockedError, match="taken it over"):
        raise_recorded_error(tmp_path, worker_exit_code(raised.value))


def test_a_death_without_a_word_is_reported(tmp_path: Path) -> None:
    """A child that died without leaving an error is a lost worker."""
    with pytest.raises(WorkerLostError, match="137"):
        raise_recorded_error(tmp_path, 137)


def test_a_child_stopped_before_it_could_save_is_an_interruption(tmp_path: Path) -> None:
    """Asked to stop while it still starts, the child dies of the signal: the same command can go on, nobody failed."""
    with pytest.raises(InterruptedRunError, match="--resume"):
        raise_recorded_error(tmp_path, 143, was_asked=True)
    with pytest.raises(WorkerLostError):
        raise_recorded_error(tmp_path, 143)
    with pytest.raises(WorkerLostError):
        raise_recorded_error(tmp_path, 1, was_asked=True)
    raise_recorded_error(tmp_path, 0, was_asked=True)


def test_a_folder_that_is_no_run_cannot_be_packaged(tmp_path: Path) -> None:
    """The data bundle is what makes a run packageable."""
    with pytest.raises(ConfigError, match="run directory"):
        open_run_data(tmp_path)


def test_a_start_that_failed_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """A run that ended in an error before its first checkpoint is not what `--resume` goes on with."""
    going = new_run(tmp_path, "a", "name: a")
    failed = new_run(tmp_path, "a", "name: a")
    with pytest.raises(DataError), recorded_errors(failed):
        raise DataError("no such column")
    assert find_run(tmp_path, "a") == going


def test_without_kernel_locks_the_lease_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is no error: a run is held there, and is known to be while its trainer's lease is."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("corelane.store.lease.fcntl.flock", no_locks)
    run = new_run(tmp_path, "a", "name: a")
    lease = Lease(run / LOCK_NAME, clock=SystemClock(), tell=lambda *_: None)
    with held(run):
        assert not is_held(run)
        lease.acquire()
        assert is_held(run)
        with pytest.raises(RunLockedError), held(run):
            pass
        lease.release()


def test_who_took_the_run_over_keeps_its_name_there(tmp_path: Path) -> None:
    """The end of a holder that was succeeded does not remove the successor's name."""
    run = new_run(tmp_path, "a", "name: a")
    with held(run):
        (run / HOLDER_NAME).write_text(json.dumps({"pid": 7, "host": "far", "since_s": 1.0}))
    assert (run / HOLDER_NAME).exists()


def test_a_run_that_was_stopped_goes_on_without_its_checkpoints(tmp_path: Path) -> None:
    """A7: interrupted, and then its checkpoints are lost: it is gone on with, from the mirror where there is one."""
    run = new_run(tmp_path, "a", "name: a")
    with pytest.raises(InterruptedRunError), recorded_errors(run):
        raise InterruptedRunError("stopped")
    assert find_run(tmp_path, "a") == run
