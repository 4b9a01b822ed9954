"""Every tier of the cache keeps the same promises: what was put, bit for bit, or nothing; bounded; the oldest goes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.core.types import Array
from corelane.machine.memory import MemoryManager
from corelane.store.bundle import write_bundle
from corelane.store.cache import Buffer, TieredCache
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.memory import MemoryTier
from corelane.store.tiers.shared import SharedTier
from corelane.store.tiers.tier import CacheTier
from tests.store.tiers.times import Ticking

LIMIT_BYTES = 320 << 10
EACH_BYTES = 56 << 10  # four or five of them fit, with the disk's two or three blocks beside each

Make = Callable[[Path, MemoryManager], CacheTier]


def _memory(folder: Path, memory: MemoryManager) -> CacheTier:
    return MemoryTier(memory, LIMIT_BYTES)


def _disk(folder: Path, memory: MemoryManager) -> CacheTier:
    return DiskTier(folder / "disk", LIMIT_BYTES, clock=Ticking())


def _shared(folder: Path, memory: MemoryManager) -> CacheTier:
    return SharedTier((folder / "shared").as_uri())


def _buffer(folder: Path, memory: MemoryManager) -> CacheTier:
    return Buffer(_memory(folder, memory), _disk(folder, memory))


def _tiered(folder: Path, memory: MemoryManager) -> CacheTier:
    return TieredCache(_memory(folder, memory), _disk(folder, memory), _shared(folder, memory))


TIERS: dict[str, Make] = {
    "memory": _memory,
    "disk": _disk,
    "shared": _shared,
    "buffer": _buffer,
    "tiered": _tiered,
}
BOUNDED = ["memory", "disk"]  # what lies over them is bounded as they are
ON_DISK = ["disk", "shared"]  # each in the folder of its name


@pytest.fixture
def memory() -> MemoryManager:
    """A budget with a data pool of 6 MiB."""
    return MemoryManager(limit_bytes=20 << 20)


@pytest.fixture(params=[*TIERS, "s3"])
def tier(
    request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryManager, s3_options: dict[str, Any]
) -> Iterator[CacheTier]:
    """One tier after the other, closed at the end. The S3 server must run before the test begins."""
    if request.param == "s3":
        bucket = request.getfixturevalue("bucket")
        made: CacheTier = SharedTier(f"{bucket.url}/cache", bucket.options)
    else:
        made = TIERS[request.param](tmp_path, memory)
    yield made
    made.close()


@pytest.fixture(params=BOUNDED)
def bounded(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryManager) -> Iterator[CacheTier]:
    """The tiers that have a bound."""
    made = TIERS[request.param](tmp_path, memory)
    yield made
    made.close()


def _value(number: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(number).integers(0, 255, EACH_BYTES, dtype=np.uint8)}


def _same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def test_what_was_put_comes_back_bit_for_bit(tier: CacheTier) -> None:
    """Any name, type and shape: not-a-numbers, empty and scalar arrays, strided ones, and bytes of both orders."""
    arrays = {
        "features": np.array([[1.5, np.nan], [-0.0, np.inf]], dtype=np.float32),
        "a/b \u00e9": np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2],
        "none": np.empty((0, 3), dtype=np.float64),
        "scalar": np.array(7, dtype=np.uint8),
        "big": np.arange(5, dtype=">i4"),
    }
    assert tier.put("augmented/one", arrays)
    found = tier.get("augmented/one")
    assert found is not None
    assert list(found) == list(arrays)
    assert all(_same(found[name], array) for name, array in arrays.items())


def test_what_is_not_there_is_none(tier: CacheTier) -> None:
    """A key that was never put, or was removed, gives nothing; removing it again is fine."""
    assert tier.get("one") is None
    tier.put("one", _value(1))
    tier.remove("one")
    tier.remove("one")
    assert tier.get("one") is None


def test_keys_do_not_meet(tier: CacheTier) -> None:
    """Keys that differ in case, in signs or in their kind are different keys."""
    keys = ["a", "A", "a.b", "a_b", "../a", "x" * 300, "augmented/a", "\u00e4"]
    for number, key in enumerate(keys):
        tier.put(key, {"x": np.array([number])})
    found = [tier.get(key) for key in keys]
    assert [None if one is None else int(one["x"][0]) for one in found] == list(range(len(keys)))


def test_values_are_the_tiers_own(tier: CacheTier) -> None:
    """What its owner does to an array after putting it is not seen, and what comes out cannot be written to."""
    array = np.arange(4)
    tier.put("one", {"x": array})
    array[0] = 99
    found = tier.get("one")
    assert found is not None
    assert found["x"].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        found["x"][0] = 1


def test_it_stays_within_its_bound_and_the_oldest_goes(bounded: CacheTier) -> None:
    """Ten values of which five fit: the last ones are there, and one that was used in between stays."""
    for number in range(10):
        assert bounded.put(f"v{number}", _value(number))
        assert bounded.get("v0") is not None, "it was used all the time"
    there = [number for number in range(10) if bounded.get(f"v{number}") is not None]
    assert there[0] == 0
    assert 3 <= len(there) <= 5
    assert there[1:] == list(range(10 - len(there) + 1, 10))


def test_what_is_larger_than_the_bound_is_not_kept(bounded: CacheTier) -> None:
    """One value above the bound is refused, and nothing else goes for it."""
    bounded.put("small", _value(1))
    assert not bounded.put("large", {"x": np.zeros(LIMIT_BYTES + 1, dtype=np.uint8)})
    assert bounded.get("large") is None
    assert bounded.get("small") is not None


def test_many_users_at_once_see_whole_values(tier: CacheTier) -> None:
    """Threads that put, get and remove the same few keys get nothing, or exactly what belongs to the key."""
    wrong: list[int] = []
    values = [_value(number) for number in range(8)]

    def use(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for number in generator.integers(0, len(values), 25):
            found = tier.get(f"v{number}")
            if found is None:
                tier.put(f"v{number}", values[number])
            elif not _same(found["x"], values[number]["x"]):
                wrong.append(int(number))
            if generator.random() < 0.1:
                tier.remove(f"v{number}")

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_closing_gives_everything_back(tier: CacheTier, memory: MemoryManager) -> None:
    """After closing, which may be done twice, no memory of the pool is used; values that are out stay readable."""
    tier.put("one", _value(1))
    found = tier.get("one")
    tier.close()
    tier.close()
    assert memory.allocated_memory == 0
    assert found is not None
    assert _same(found["x"], _value(1)["x"])


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
@pytest.mark.parametrize("name", ON_DISK)
def test_a_broken_value_is_a_miss_that_is_counted_and_can_be_made_again(
    name: str, damage: str, tmp_path: Path, memory: MemoryManager
) -> None:
    """Whatever happened to the bytes of a value, it is not handed out; then there is room for a new one."""
    tier = TIERS[name](tmp_path, memory)
    tier.put("one", _value(1))
    (file,) = (tmp_path / name).glob("arrays/*/0.npy")
    data = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        broken = {"flip": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "cut": data[:-7], "empty": b""}
        file.write_bytes(broken[damage])
    assert tier.get("one") is None
    assert tier.meter.counts.broken == 1
    assert tier.meter.counts.misses == 1
    assert tier.put("one", _value(1))
    found = tier.get("one")
    assert found is not None
    assert _same(found["x"], _value(1)["x"])
    tier.close()


@pytest.mark.parametrize("name", ON_DISK)
def test_what_somebody_else_wrote_is_a_miss(name: str, tmp_path: Path, memory: MemoryManager) -> None:
    """A whole entry that is no arrays of ours, objects among them, is removed and never unpickled."""
    tier = TIERS[name](tmp_path, memory)
    tier.put("one", _value(1))
    (entry,) = (tmp_path / name / "arrays").iterdir()
    shutil.rmtree(entry)
    with write_bundle(entry, "arrays") as directory:
        np.save(directory / "0.npy", np.array([{}]), allow_pickle=True)
        (directory / "names.json").write_text('["x"]')
    assert tier.get("one") is None
    assert tier.meter.counts.broken == 1
    assert not (entry / "manifest.json").exists()
    tier.close()
