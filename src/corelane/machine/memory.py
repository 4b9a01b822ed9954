"""Memory that is owned: one budget, divided into four pools that lease aligned arrays and account for what others hold.

`app` makes one `MemoryManager` a process. What prefetches, caches or batches leases its arrays here or registers as a
holder that can give memory back; what torch and the runtimes hold is reserved, so that all four pools are real. Nothing
is freed behind a lease's back: when a pool is full its holders are asked once, and then the answer is
`MemoryBudgetError`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from corelane.core.errors import ConfigError, MemoryBudgetError
from corelane.core.types import Array
from corelane.machine.cpu import DATA_SHARE, Machine

ALIGNMENT = 64  # a cache line, and the width of an AVX-512 register

POOL_SHARES: Mapping[str, float] = {"model": 0.4, "data": DATA_SHARE, "gradients": 0.2, "system": 0.1}
_SHRINK = 0.75  # of a pool's limit is left after a sign of pressure...
_SMALLEST = 0.25  # ...down to this part of its share: a pool without any room could only fail
_GROW = 1.1  # a calm reading gives this back: slower than it was taken, or the two would swing

Holder: TypeAlias = Callable[[int], int]
"""Asked for a number of bytes, gives back as many as it can and says how many that was. Must not allocate."""


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """Bytes of one pool: leased and reserved now and at most ever, idle (kept to be leased again), and its limit."""

    used_bytes: int
    peak_bytes: int
    idle_bytes: int
    limit_bytes: int


class MemoryPool:
    """Owns the leases and reservations of one part of the memory and nothing else. Safe to use from several threads.

    `share` is the pool's part of `budget_bytes`. Released buffers stay with the pool and are leased again for arrays of
    about the same size.
    """

    def __init__(self, name: str, share: float, *, budget_bytes: int = 8 << 30) -> None:
        if not 0.0 < share <= 1.0 or budget_bytes < 1:
            raise ConfigError(
                f"a memory pool must have a share above 0 and at most 1 of at least one byte, "
                f"got {share} of {budget_bytes}; give another share"
            )
        self.name = name
        self.share = share
        self._most_bytes = max(1, int(budget_bytes * share))
        self._limit_bytes = self._most_bytes
        self._used_bytes = 0
        self._peak_bytes = 0
        self._idle: dict[int, list[Array]] = {}
        self._leased: dict[int, Array] = {}
        self._lock = threading.Lock()

    @property
    def usage(self) -> PoolUsage:
        """What the pool holds now."""
        with self._lock:
            return PoolUsage(self._used_bytes, self._peak_bytes, self._idle_bytes(), self._limit_bytes)

    @property
    def free_bytes(self) -> int:
        """How much could be leased or reserved now; idle buffers do not count against it."""
        with self._lock:
            return max(0, self._limit_bytes - self._used_bytes)

    def allocate(self, shape: Sequence[int], dtype: Any) -> Array:
        """Lease an uninitialised, C-contiguous array of `shape` and `dtype` whose first byte is aligned to 64 bytes.

        It is the caller's until `release`. Raises `MemoryBudgetError` when the pool has no room for it.
        """
        kind = np.dtype(dtype)
        num_bytes = math.prod(shape) * kind.itemsize
        size = _size_class(num_bytes)
        with self._lock:
            self._take(size)
            buffers = self._idle.get(size)
            buffer = buffers.pop() if buffers else None
            self._drop_idle()
            if buffer is None:
                buffer = np.empty(size + ALIGNMENT, dtype=np.uint8)
            self._leased[id(buffer)] = buffer
        return _aligned(buffer, shape, kind)

    def release(self, array: Array) -> None:
        """Give a leased array back; it and every view of it must not be used any more.

        Raises `ConfigError` when it is not leased from this pool.
        """
        with self._lock:
            buffer = self._leased.pop(id(array.base), None)
            if buffer is None:
                raise ConfigError(
                    f"an array must be leased from the pool {self.name!r} to be released there, got another; "
                    "release what allocate gave, once"
                )
            size = buffer.nbytes - ALIGNMENT
            self._used_bytes -= size
            self._idle.setdefault(size, []).append(buffer)

    def owns(self, array: Array) -> bool:
        """Whether `array` is leased from this pool."""
        with self._lock:
            return id(array.base) in self._leased

    def reserve(self, num_bytes: int) -> Reservation:
        """Account for `num_bytes` that somebody else allocates, until the reservation is released.

        Raises `MemoryBudgetError` when the pool has no room for it.
        """
        with self._lock:
            self._take(num_bytes)
            self._drop_idle()
        return Reservation(self, num_bytes)

    def give_back(self, num_bytes: int) -> None:
        """End of a reservation; called by it."""
        with self._lock:
            self._used_bytes -= num_bytes

    def drop_idle(self) -> int:
        """Free the buffers that nobody leases; how many bytes that was."""
        with self._lock:
            num_bytes = self._idle_bytes()
            self._idle.clear()
            return num_bytes

    def shrink(self) -> None:
        """Lower the limit by a quarter, not below a quarter of the share. Leases stay."""
        with self._lock:
            self._limit_bytes = max(int(self._limit_bytes * _SHRINK), int(self._most_bytes * _SMALLEST), 1)

    def grow(self) -> None:
        """Raise the limit by a tenth, up to the share."""
        with self._lock:
            self._limit_bytes = min(math.ceil(self._limit_bytes * _GROW), self._most_bytes)

    def _take(self, num_bytes: int) -> None:
        if num_bytes < 0 or self._used_bytes + num_bytes > self._limit_bytes:
            raise MemoryBudgetError(
                f"the memory pool {self.name!r} must have room for {num_bytes} bytes, got "
                f"{max(0, self._limit_bytes - self._used_bytes)} free of {self._limit_bytes}; "
                "give machine.memory more, or use smaller batches"
            )
        self._used_bytes += num_bytes
        self._peak_bytes = max(self._peak_bytes, self._used_bytes)

    def _drop_idle(self) -> None:
        """Idle and used bytes together stay within the limit; the largest idle buffers go first."""
        while self._idle and self._idle_bytes() > self._limit_bytes - self._used_bytes:
            largest = max(self._idle)
            self._idle[largest].pop()
            if not self._idle[largest]:
                del self._idle[largest]

    def _idle_bytes(self) -> int:
        return sum(size * len(buffers) for size, buffers in self._idle.items())


class Reservation:
    """Bytes that a pool counts as used. A context manager; `release` may be called twice."""

    def __init__(self, pool: MemoryPool, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._pool = pool
        self._is_held = True

    def release(self) -> None:
        """Give the bytes back to the pool."""
        if self._is_held:
            self._is_held = False
            self._pool.give_back(self.num_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class MemoryManager:
    """Owns the process's memory budget, its four pools and the list of holders, and nothing else.

    The budget is the smaller of `max_memory_gb` (GiB) and `limit_bytes`, which is what the machine and its control
    group allow unless it is given; infinity is the limit itself. Safe to use from several threads; holders are called
    without a lock.
    """

    def __init__(self, max_memory_gb: float = 8, *, limit_bytes: int | None = None) -> None:
        if max_memory_gb <= 0:
            raise ConfigError(f"max_memory_gb must be above 0, got {max_memory_gb}; give a size in GiB")
        limit = Machine.detect().memory_bytes if limit_bytes is None else limit_bytes
        self.max_memory = int(min(max_memory_gb * 1024**3, limit))
        self.memory_pools = {
            name: MemoryPool(name, share, budget_bytes=self.max_memory) for name, share in POOL_SHARES.items()
        }
        self._holders: dict[str, list[Holder]] = {name: [] for name in POOL_SHARES}
        self._lock = threading.Lock()

    @property
    def allocated_memory(self) -> int:
        """Bytes leased and reserved in all pools."""
        return sum(pool.usage.used_bytes for pool in self.memory_pools.values())

    def can_allocate(self, num_bytes: int, pool_name: str = "data") -> bool:
        """Whether the pool has room for `num_bytes` now, without asking anybody for memory."""
        return self.pool(pool_name).free_bytes >= num_bytes

    def allocate_tensor(self, shape: Sequence[int], dtype: Any, pool_name: str = "data") -> Array:
        """Lease an array (see `MemoryPool.allocate`); when the pool is full its holders are asked, once.

        Raises `MemoryBudgetError` that names the pool, what was asked and what is free; `ConfigError` for an unknown
        pool.
        """
        pool = self.pool(pool_name)
        self._make_room(pool, _size_class(math.prod(shape) * np.dtype(dtype).itemsize))
        return pool.allocate(shape, dtype)

    def reserve(self, num_bytes: int, pool_name: str) -> Reservation:
        """Account for memory that somebody else allocates (see `MemoryPool.reserve`), asking holders if need be."""
        pool = self.pool(pool_name)
        self._make_room(pool, num_bytes)
        return pool.reserve(num_bytes)

    def release(self, array: Array) -> None:
        """Give a leased array back to the pool it came from. Raises `ConfigError` when it is no lease."""
        for pool in self.memory_pools.values():
            if pool.owns(array):
                return pool.release(array)
        raise ConfigError("an array must be leased from the memory manager to be released, got another")

    def register_holder(self, holder: Holder, pool_name: str = "data") -> Callable[[], None]:
        """Ask `holder` when the pool is full or memory is short; the result takes it off the list again."""
        self.pool(pool_name)
        with self._lock:
            self._holders[pool_name].append(holder)

        def unregister() -> None:
            with self._lock:
                if holder in self._holders[pool_name]:
                    self._holders[pool_name].remove(holder)

        return unregister

    def relieve(self) -> int:
        """The machine is short of memory: free idle buffers, lower the limits, ask holders for what is above them.

        Returns the bytes that came free.
        """
        freed = 0
        for pool in self.memory_pools.values():
            freed += pool.drop_idle()
            pool.shrink()
            usage = pool.usage
            # A quarter also of a pool within its limit: it is the machine that is short, not the pool.
            freed += self._ask(pool, max(usage.used_bytes - usage.limit_bytes, usage.used_bytes // 4))
        return freed

    def relax(self) -> None:
        """Memory is no longer short: let the limits rise again, step by step."""
        for pool in self.memory_pools.values():
            pool.grow()

    def describe(self) -> dict[str, PoolUsage]:
        """The usage of every pool by name, for metrics and reports."""
        return {name: pool.usage for name, pool in self.memory_pools.items()}

    def pool(self, name: str) -> MemoryPool:
        """The pool of that name. Raises `ConfigError` for an unknown one."""
        if name not in self.memory_pools:
            raise ConfigError(f"the memory pool must be one of {', '.join(self.memory_pools)}, got {name!r}")
        return self.memory_pools[name]

    def _make_room(self, pool: MemoryPool, num_bytes: int) -> None:
        missing = num_bytes - pool.free_bytes
        if missing > 0:
            self._ask(pool, missing)

    def _ask(self, pool: MemoryPool, num_bytes: int) -> int:
        with self._lock:
            holders = list(self._holders[pool.name])
        freed = 0
        for holder in holders:
            if freed < num_bytes:
                freed += holder(num_bytes - freed)
        return freed


def aligned_empty(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An uninitialised C-contiguous array, leased from nobody, whose first byte lies at a multiple of `ALIGNMENT`."""
    return _aligned(np.empty(math.prod(shape) * dtype.itemsize + ALIGNMENT, dtype=np.uint8), shape, dtype)


def _aligned(buffer: Array, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """The array that begins at the first aligned byte of `buffer` (bytes, `ALIGNMENT` more than the array has)."""
    offset = -buffer.ctypes.data % ALIGNMENT
    array: Array = buffer[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(tuple(shape))
    return array


def _size_class(num_bytes: int) -> int:
    """The size of the buffer for `num_bytes`: the next of four steps per power of two, at most a quarter more.

    Batches of slightly different sizes (the last of an epoch) then share buffers.
    """
    if num_bytes <= ALIGNMENT:
        return ALIGNMENT
    step = max(ALIGNMENT, 1 << (num_bytes.bit_length() - 3))
    return -(-num_bytes // step) * step
