"""What becomes of saves: written behind, counted when skipped, told when they fail, never a mixture of two steps."""

from __future__ import annotations

import io
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from corelane.core.errors import DiskFullError, NonFiniteLossError, SaveError
from corelane.observe.log import SystemLogger
from corelane.train.retention import Retention, saved_steps
from corelane.train.saver import BackgroundSaver, Job
from corelane.train.state import TrainingStateManager
from corelane.train.writer import SavePolicy
from tests.train.test_state import Bench, save

FILES = ("model.safetensors", "optimizer.safetensors", "best.safetensors", "history.jsonl")


class SlowSaver(BackgroundSaver):
    """Begins each job only when it is let: the disk is slow, and the training is not."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()

    def submit(self, job: Job) -> None:
        """Hand over `job`, which waits."""

        def late() -> None:
            self.may_write.wait()
            job()

        super().submit(late)


def manager(folder: Path, log: io.StringIO | None = None, **options: Any) -> TrainingStateManager:
    logger = SystemLogger(stream=log or io.StringIO())
    return TrainingStateManager(folder / "checkpoints", logger=logger, retention=Retention(last=9), **options)


def events(log: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [entry for entry in map(json.loads, log.getvalue().splitlines()) if entry["event"] == event]


def test_what_is_written_behind_is_of_one_step(tmp_path: Path) -> None:
    """A9: while the training takes more steps, and finds better weights, the files are those of a save at once."""
    files: dict[str, dict[str, bytes]] = {}
    for name, saver in (("at once", None), ("behind", SlowSaver())):
        (tmp_path / name).mkdir()
        bench, state = Bench(), manager(tmp_path / name, saver=saver)
        with state:
            state.history.reset()
            state.keep_best(bench.net)
            save(state, bench, 1)
            for _ in range(5):
                bench.step()
                state.history.add("step", {"step": 2})
            state.keep_best(bench.net)
            if saver is not None:
                assert state.saved_step == 1
                assert state.durable_step is None
                assert saved_steps(state.checkpoint_dir) == []
                saver.may_write.set()
            state.settle()
            assert state.durable_step == 1
        files[name] = {file: (state.checkpoint_dir / "1" / file).read_bytes() for file in FILES}
    assert files["at once"] == files["behind"]


def test_the_next_waits_or_is_skipped_and_counted(tmp_path: Path) -> None:
    """A9: with `skip` a save that is due meanwhile is left out and counted; the last of a run never is."""
    log, saver = io.StringIO(), SlowSaver()
    bench, state = Bench(), manager(tmp_path, log, saver=saver, policy=SavePolicy("skip"))
    with state:
        save(state, bench, 1)
        save(state, bench, 2)
        assert state.saved_step == 1
        state.counters.is_finished = True
        threading.Timer(0.05, saver.may_write.set).start()
        save(state, bench, 3)
        state.settle()
    assert saved_steps(state.checkpoint_dir) == [1, 3]
    assert [entry["step"] for entry in events(log, "checkpoint_skipped")] == [2]


def test_waiting_is_bounded_where_a_bound_is_given(tmp_path: Path) -> None:
    """A9: a disk that hangs is told with the last durable step, after the time given; it may still come."""
    saver = SlowSaver()
    bench, state = Bench(), manager(tmp_path, saver=saver)
    save(state, bench, 7)
    with pytest.raises(SaveError, match=r"step 7 must be written within 0 s.*The last durable one: None"):
        state.settle(0.05)
    saver.may_write.set()
    state.settle()
    assert state.durable_step == 7
    with state:
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.needs("mount")
@pytest.mark.parametrize("saver", [None, BackgroundSaver()], ids=["at once", "behind"])
def test_a_failed_save_is_told_and_the_next_is_tried(small_disk: Path, saver: BackgroundSaver | None) -> None:
    """A3: path, bytes needed and free are told and counted; older checkpoints stay, nothing half-written does; with
    room again the next is saved, and the count of failures begins anew.
    """
    log = io.StringIO()
    bench, state = Bench(), manager(small_disk, log, saver=saver, policy=SavePolicy(max_failures=2))
    ballast = small_disk / "ballast"
    with state:
        save(state, bench, 1)
        state.settle()
        for step in (2, 4):
            ballast.write_bytes(bytes((256 << 10) - _used(small_disk) - 8192))
            save(state, bench, step)
            with pytest.raises(DiskFullError):
                state.settle()
            assert not state.is_due()
            ballast.unlink()
            save(state, bench, step + 1)
            state.settle()
    failed = events(log, "checkpoint_failed")
    assert [entry["failures_in_a_row"] for entry in failed] == [1, 1]
    assert failed[0]["path"].endswith("checkpoints/2")
    assert failed[0]["bytes_needed"] > failed[0]["bytes_free"]
    assert saved_steps(state.checkpoint_dir) == [1, 3, 5]
    assert {path.name for path in state.checkpoint_dir.iterdir()} == {"1", "3", "5"}
    exposition = state._logger.metrics_collector.render().decode()
    assert "corelane_training_checkpoint_failures_total 2.0" in exposition


@pytest.mark.needs("mount")
def test_too_many_failures_in_a_row_end_the_run(small_disk: Path) -> None:
    """A3: the last allowed failure makes a save due at once, and that raises what was wrong."""
    bench, state = Bench(), manager(small_disk, saver=BackgroundSaver(), policy=SavePolicy(max_failures=2))
    (small_disk / "ballast").write_bytes(bytes(250 << 10))
    with state:
        for step in (1001, 1002):
            assert not state._writer.has_failed
            save(state, bench, step)
            state._writer._saver.wait()
        assert state.is_due()
        with pytest.raises(DiskFullError, match="bytes free"):
            save(state, bench, 1003)
        (small_disk / "ballast").unlink()
        save(state, bench, 1004)
        state.settle()
    assert saved_steps(state.checkpoint_dir) == [1004]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, value: float) -> None:
    """NaN and infinities in a weight are named, the checkpoint before stays the newest; large weights are fine."""
    bench, state = Bench(), manager(tmp_path)
    with torch.no_grad():
        bench.net[0].weight.fill_(3e38)  # type: ignore[union-attr]
    save_as_is(state, bench, 1)
    with torch.no_grad():
        bench.net[0].weight[3, 4] = value  # type: ignore[index]
    with pytest.raises(NonFiniteLossError, match=r"'0\.weight'"):
        save_as_is(state, bench, 2)
    assert saved_steps(state.checkpoint_dir) == [1]


def save_as_is(state: TrainingStateManager, bench: Bench, step: int) -> None:
    state.counters.step = step
    state.save_checkpoint(*bench.parts, {})


def _used(disk: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in disk.rglob("*") if path.is_file())
