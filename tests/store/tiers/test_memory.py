"""The tier in memory: bounded by bytes, accounted for in the data pool, and giving back when memory is short."""

from __future__ import annotations

import math

import numpy as np

from corelane.core.types import Array
from corelane.machine.memory import MemoryManager
from corelane.store.tiers.memory import MemoryTier, default_limit_bytes

MIB = 1 << 20


def _value(num_bytes: int = MIB) -> dict[str, Array]:
    return {"x": np.ones(num_bytes, dtype=np.uint8)}


def test_the_bound_is_a_tenth_of_the_budget_and_at_most_a_gibibyte() -> None:
    """Small machines keep a tenth, large ones 1 GiB."""
    assert default_limit_bytes(1000 * MIB) == 100 * MIB
    assert default_limit_bytes(1 << 40) == 1 << 30
    assert MemoryTier(MemoryManager(limit_bytes=40 * MIB)).limit_bytes == 4 * MIB


def test_what_it_holds_is_reserved_in_the_data_pool() -> None:
    """The pool counts each value while it is kept, and no longer."""
    memory = MemoryManager(limit_bytes=100 * MIB)
    tier = MemoryTier(memory, 4 * MIB)
    for number in range(6):
        tier.put(f"v{number}", _value())
        assert memory.pool("data").usage.used_bytes == tier.usage.num_bytes == min(number + 1, 4) * MIB
    tier.put("v5", _value(MIB // 2))
    assert memory.pool("data").usage.used_bytes == tier.usage.num_bytes
    tier.remove("v5")
    assert memory.pool("data").usage.used_bytes == 3 * MIB
    assert tier.meter.counts.evictions == 2
    tier.close()
    assert memory.pool("data").usage.used_bytes == 0


def test_a_full_pool_takes_the_oldest_values() -> None:
    """Who needs memory of the pool gets it from the tier, the least recently used first."""
    memory = MemoryManager(limit_bytes=20 * MIB)  # 6 MiB of data
    tier = MemoryTier(memory, 5 * MIB)
    for number in range(5):
        tier.put(f"v{number}", _value())
    tier.get("v0")
    with memory.reserve(3 * MIB, "data"):
        assert [tier.get(f"v{number}") is not None for number in range(5)] == [True, False, False, True, True]
    tier.close()


def test_a_machine_short_of_memory_gets_some_back() -> None:
    """Pressure lowers what the tier holds."""
    memory = MemoryManager(limit_bytes=20 * MIB)
    tier = MemoryTier(memory, 5 * MIB)
    for number in range(5):
        tier.put(f"v{number}", _value())
    assert memory.relieve() > 0
    assert tier.usage.num_bytes < 5 * MIB
    tier.close()


def test_no_room_in_the_pool_is_no_error() -> None:
    """A value that the pool cannot hold beside what others leased is not kept."""
    memory = MemoryManager(limit_bytes=20 * MIB)
    tier = MemoryTier(memory, 5 * MIB)
    with memory.reserve(4 * MIB, "data"):
        assert not tier.can_keep(3 * MIB)
        assert tier.can_keep(2 * MIB)
        assert not tier.put("one", _value(3 * MIB))
        assert tier.put("two", _value(2 * MIB))
    tier.close()


def test_a_machine_without_so_much_memory_is_no_error() -> None:
    """A value that cannot be copied is not kept, and the pool has all of its bytes back."""
    memory = MemoryManager(math.inf, limit_bytes=1 << 60)
    tier = MemoryTier(memory, 1 << 58)
    assert not tier.put("one", {"x": np.broadcast_to(np.ones(1), (1 << 50,))})
    assert memory.pool("data").usage.used_bytes == tier.usage.num_bytes == 0
    tier.close()


def test_copies_are_aligned() -> None:
    """Every array begins at a multiple of 64 bytes, as kernels like it."""
    tier = MemoryTier(MemoryManager(limit_bytes=20 * MIB), MIB)
    tier.put("one", {"x": np.arange(7, dtype=np.float32)[1:], "y": np.zeros((3, 5))})
    found = tier.get("one")
    assert found is not None
    assert all(array.ctypes.data % 64 == 0 and array.flags.c_contiguous for array in found.values())
    tier.close()
