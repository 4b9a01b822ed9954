"""`MemoryManager` and its pools: leases are aligned and reused, nothing goes beyond a limit, holders are asked once."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelane.core.errors import ConfigError, MemoryBudgetError
from corelane.machine.memory import ALIGNMENT, POOL_SHARES, MemoryManager, MemoryPool

MIB = 1 << 20


@pytest.fixture
def manager() -> MemoryManager:
    """A manager of 100 MiB: 30 MiB of data, 20 MiB of gradients."""
    return MemoryManager(1, limit_bytes=100 * MIB)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7, 3), (256, 784)])
@pytest.mark.parametrize("dtype", [np.float32, "int64", np.uint8, np.dtype(np.float64)])
def test_a_lease_has_the_shape_asked_for_and_is_aligned(
    manager: MemoryManager, shape: tuple[int, ...], dtype: object
) -> None:
    """Leased arrays are C-contiguous, writeable, and begin at a cache line."""
    array = manager.allocate_tensor(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.size == 0 or array.ctypes.data % ALIGNMENT == 0  # NumPy tells no address of an empty one


def test_the_shares_are_those_of_the_design_and_fill_the_budget(manager: MemoryManager) -> None:
    """Model 40 %, data 30 %, gradients 20 %, system 10 %, of the smaller of what is configured and allowed."""
    assert {name: pool.share for name, pool in manager.memory_pools.items()} == dict(POOL_SHARES)
    assert sum(POOL_SHARES.values()) == pytest.approx(1.0)
    assert manager.max_memory == 100 * MIB
    assert MemoryManager(0.5, limit_bytes=1 << 40).max_memory == 1 << 29


def test_a_released_buffer_is_leased_again(manager: MemoryManager) -> None:
    """Arrays of about the same size share one buffer, one after the other."""
    first = manager.allocate_tensor((256, 100), np.float32)
    address = first.ctypes.data
    manager.release(first)
    second = manager.allocate_tensor((250, 100), np.float32)
    assert second.ctypes.data == address
    usage = manager.describe()["data"]
    assert usage.idle_bytes == 0
    assert usage.used_bytes == usage.peak_bytes


def test_a_full_pool_says_which_it_is_what_was_asked_and_what_is_free(manager: MemoryManager) -> None:
    """Beyond the limit there is an error, never a wait or a recursion, and the other pools are not touched."""
    manager.allocate_tensor((20 * MIB,), np.uint8)
    with pytest.raises(MemoryBudgetError, match=rf"pool 'data' must have room for {16 * MIB} bytes, got {10 * MIB}"):
        manager.allocate_tensor((16 * MIB,), np.uint8)
    assert manager.can_allocate(16 * MIB, "gradients")
    assert manager.allocated_memory == 20 * MIB


def test_reservations_count_like_leases_and_end_once(manager: MemoryManager) -> None:
    """What torch holds takes room in its pool until the reservation is released; releasing twice changes nothing."""
    with manager.reserve(15 * MIB, "gradients") as reservation:
        assert manager.pool("gradients").free_bytes == 5 * MIB
        with pytest.raises(MemoryBudgetError, match="gradients"):
            manager.reserve(6 * MIB, "gradients")
    reservation.release()
    assert manager.pool("gradients").free_bytes == 20 * MIB


def test_holders_are_asked_once_for_what_is_missing(manager: MemoryManager) -> None:
    """A holder that can give back makes room; one that cannot is asked once and then the answer is an error."""
    held = [manager.reserve(12 * MIB, "data"), manager.reserve(12 * MIB, "data")]
    asked: list[int] = []

    def give_back(num_bytes: int) -> int:
        asked.append(num_bytes)
        if not held:
            return 0
        reservation = held.pop()
        reservation.release()
        return reservation.num_bytes

    unregister = manager.register_holder(give_back)
    manager.allocate_tensor((16 * MIB,), np.uint8)
    assert asked == [10 * MIB]
    held.clear()
    with pytest.raises(MemoryBudgetError):
        manager.allocate_tensor((16 * MIB,), np.uint8)
    assert len(asked) == 2
    unregister()
    with pytest.raises(MemoryBudgetError):
        manager.allocate_tensor((16 * MIB,), np.uint8)
    assert len(asked) == 2


def test_pressure_frees_idle_buffers_and_lowers_limits_until_it_is_calm(manager: MemoryManager) -> None:
    """Under pressure pools give back what is idle and take less; a quarter of the share always stays."""
    manager.release(manager.allocate_tensor((8 * MIB,), np.uint8))
    assert manager.relieve() >= 8 * MIB
    pool = manager.pool("data")
    assert pool.usage.idle_bytes == 0
    assert pool.usage.limit_bytes == int(30 * MIB * 0.75)
    for _ in range(20):
        manager.relieve()
    assert pool.usage.limit_bytes == int(30 * MIB * 0.25)
    for _ in range(20):
        manager.relax()
    assert pool.usage.limit_bytes == 30 * MIB


def test_only_leases_can_be_released_and_only_once(manager: MemoryManager) -> None:
    """A stranger's array and a second release are refused, so a buffer is never leased twice at a time."""
    with pytest.raises(ConfigError, match="must be leased"):
        manager.release(np.zeros(4))
    array = manager.allocate_tensor((4,), np.float32)
    manager.release(array)
    with pytest.raises(ConfigError, match="must be leased"):
        manager.release(array)


@pytest.mark.parametrize("make", [lambda: MemoryManager(0), lambda: MemoryPool("x", 0.0), lambda: MemoryPool("x", 1.5)])
def test_what_cannot_be_is_refused(make: object) -> None:
    """A budget of nothing and a share outside 0..1 are errors at construction."""
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_an_unknown_pool_is_named(manager: MemoryManager) -> None:
    """The error lists the pools there are."""
    with pytest.raises(ConfigError, match="model, data, gradients, system, got 'dta'"):
        manager.allocate_tensor((1,), np.uint8, "dta")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4 * MIB), st.booleans()), max_size=40))
def test_whatever_is_leased_and_released_the_books_are_right(steps: list[tuple[int, bool]]) -> None:
    """Used bytes cover the live leases, idle and used bytes stay within the limit, and live leases never overlap."""
    pool = MemoryPool("data", 1.0, budget_bytes=8 * MIB)
    live: list[np.ndarray] = []
    for num_bytes, is_lease in steps:
        if is_lease or not live:
            try:
                live.append(pool.allocate((num_bytes,), np.uint8))
            except MemoryBudgetError:
                assert pool.usage.used_bytes + num_bytes * 1.25 + ALIGNMENT > 8 * MIB
        else:
            pool.release(live.pop(num_bytes % len(live)))
        usage = pool.usage
        assert usage.used_bytes >= sum(array.nbytes for array in live)
        assert usage.used_bytes + usage.idle_bytes <= usage.limit_bytes
        spans = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in live if array.nbytes)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_threads_never_share_a_buffer(manager: MemoryManager) -> None:
    """Eight threads lease, fill, look and release: each sees only its own values."""
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(300):
            array = manager.allocate_tensor((1000,), np.int64)
            array[:] = number
            if not (array == number).all():
                wrong.append(number)
            manager.release(array)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert manager.allocated_memory == 0
