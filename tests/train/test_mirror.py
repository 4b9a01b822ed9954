"""Copies of checkpoints in shared storage: verified, few, given back when the disk is gone, and never in the way."""

from __future__ import annotations

import io
import shutil
import threading
from pathlib import Path

import pytest

from corelane.core.errors import BundleError, StateError
from corelane.observe.log import SystemLogger
from corelane.store.tiers.shared import SharedTier
from corelane.train.mirror import SharedMirror
from corelane.train.retention import Retention, saved_steps
from tests.train.examples import weights
from tests.train.test_state import Bench, manager, save


def mirror(tmp_path: Path, run: str = "digits-001-k", log: io.StringIO | None = None) -> SharedMirror:
    tier = SharedTier(f"file://{tmp_path}/shared")
    return SharedMirror(tier, run, SystemLogger(stream=log or io.StringIO()))


def mirrored(tmp_path: Path, steps: range) -> Bench:
    """A run whose checkpoints of `steps` were all copied."""
    bench, copies = Bench(), mirror(tmp_path)
    with manager(tmp_path, mirror=copies) as state:
        for step in steps:
            save(state, bench, step)
            copies._thread.wait()
    assert copies.mirrored_step == steps[-1]
    return bench


def test_a_lost_disk_costs_no_checkpoint(tmp_path: Path) -> None:
    """With every local checkpoint gone the newest copy is put back, verified, told, and in the notes."""
    bench = mirrored(tmp_path, range(1, 5))
    shutil.rmtree(tmp_path / "checkpoints")
    log, other = io.StringIO(), Bench(seed=3)
    resumed = manager(tmp_path, log, mirror=mirror(tmp_path), strict=True)
    assert resumed.resume(*other.parts)
    assert weights(other.net) == weights(bench.net)
    assert resumed.counters.step == 4
    assert resumed.notes == [{"event": "taken_from_mirror", "step": 4}]
    assert "taken_from_mirror" in log.getvalue()
    assert manager(tmp_path, strict=True).resume(*Bench().parts)


def test_a_broken_copy_is_passed_over(tmp_path: Path) -> None:
    """A flipped byte in the newest copy: the one before is used."""
    mirrored(tmp_path, range(1, 4))
    shutil.rmtree(tmp_path / "checkpoints")
    path = tmp_path / "shared/checkpoints/digits-001-k-3/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xa5")
    resumed = manager(tmp_path, mirror=mirror(tmp_path))
    assert resumed.resume(*Bench().parts)
    assert resumed.counters.step == 2


def test_the_two_newest_copies_of_a_run_stay(tmp_path: Path) -> None:
    """Older copies of this run go; another run's stay."""
    (tmp_path / "b").mkdir()
    with manager(tmp_path / "b", mirror=mirror(tmp_path, "other-001-k")) as state:
        save(state, Bench(), 9)
    mirrored(tmp_path, range(1, 6))
    assert {path.name for path in (tmp_path / "shared/checkpoints").iterdir() if any(path.iterdir())} == {
        *("digits-001-k-4", "digits-001-k-5", "other-001-k-9")
    }
    assert mirror(tmp_path).steps() == [4, 5]
    assert mirror(tmp_path, "digits-001").steps() == []


def test_a_store_that_fails_ends_no_run(tmp_path: Path) -> None:
    """A store that cannot be written is told; checkpoints on the own disk are saved all the same."""
    (tmp_path / "shared").write_text("a file where the store should be")
    log = io.StringIO()
    with manager(tmp_path, mirror=mirror(tmp_path, log=log)) as state:
        save(state, Bench(), 1)
    assert state.durable_step == 1
    assert "checkpoint_not_mirrored" in log.getvalue()


def test_nothing_local_and_no_copy(tmp_path: Path) -> None:
    """Where there is neither, a run begins anew, and the best weights are an error."""
    state = manager(tmp_path, mirror=mirror(tmp_path))
    assert not state.resume(*Bench().parts)
    with pytest.raises(StateError, match="must hold a whole checkpoint"):
        state.load_best()


class BlockedStore:
    """A shared store whose uploads wait until they are let, and that raises what `faults` say first."""

    def __init__(self, tier: SharedTier, *faults: Exception) -> None:
        self.may_copy = threading.Event()
        self.num_listings = 0
        self._tier = tier
        self._faults = list(faults)

    def keep(self, folder: str, name: str, bundle: Path) -> bool:
        self.may_copy.wait()
        if self._faults:
            raise self._faults.pop(0)
        return self._tier.keep(folder, name, bundle)

    def fetch(self, folder: str, name: str, kind: str, target: Path) -> bool:
        return self._tier.fetch(folder, name, kind, target)

    def check(self, name: str) -> BundleError | None:
        return self._tier.check(name)

    def entries(self) -> dict[str, int]:
        self.num_listings += 1
        return self._tier.entries()

    def discard(self, name: str) -> bool:
        return self._tier.discard(name)


def blocked(tmp_path: Path, *faults: Exception) -> tuple[BlockedStore, SharedMirror]:
    store = BlockedStore(SharedTier(f"file://{tmp_path}/shared"), *faults)
    return store, SharedMirror(store, "digits-001-k", SystemLogger(stream=io.StringIO()))


def test_what_stayed_to_be_copied_goes_at_the_end(tmp_path: Path) -> None:
    """A checkpoint that was still being copied at the last pruning is removed before the run ends: as many stay as
    without a mirror.
    """
    store, copies = blocked(tmp_path)
    with manager(tmp_path, mirror=copies, retention=Retention(last=2)) as state:
        for step in range(1, 5):
            save(state, Bench(), step)
        assert saved_steps(state.checkpoint_dir) == [1, 3, 4]
        store.may_copy.set()
    assert saved_steps(state.checkpoint_dir) == [3, 4]


def test_an_error_of_the_stores_driver_stops_no_copies(tmp_path: Path) -> None:
    """Whatever a driver raises is told; the next checkpoint is copied all the same."""
    store, copies = blocked(tmp_path, RuntimeError("a driver's own"))
    store.may_copy.set()
    with manager(tmp_path, mirror=copies) as state:
        for step in (1, 2):
            save(state, Bench(), step)
            copies._thread.wait()
    assert copies.mirrored_step == 2


def test_the_store_is_listed_once(tmp_path: Path) -> None:
    """A store holds other runs' entries too, so a copy does not list all of it again."""
    store, copies = blocked(tmp_path)
    store.may_copy.set()
    with manager(tmp_path, mirror=copies) as state:
        for step in range(1, 6):
            save(state, Bench(), step)
            copies._thread.wait()
    assert store.num_listings == 1
    assert copies.steps() == [4, 5]
