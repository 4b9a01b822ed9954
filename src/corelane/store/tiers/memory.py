"""`MemoryTier` (L1): arrays in this process's memory, the least recently used given up first.

What it holds is reserved in the data pool of the `MemoryManager`, and it is registered there as a holder: a full pool
or a machine short of memory takes entries from it. Arrays that were handed out stay valid for whoever has them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from corelane.core.errors import MemoryBudgetError
from corelane.core.types import Array
from corelane.machine.memory import MemoryManager, Reservation, aligned_empty
from corelane.store.tiers.tier import Arrays, TierMeter, TierUsage, size_of

MOST_BYTES = 1 << 30
SHARE = 0.1  # of the memory budget: the batches and weights of training come first

_POOL = "data"


def default_limit_bytes(budget_bytes: int) -> int:
    """The bound of the tier in a process that may use `budget_bytes`: a tenth of them, at most 1 GiB."""
    return min(MOST_BYTES, int(budget_bytes * SHARE))


@dataclass(frozen=True, slots=True)
class _Kept:
    arrays: Arrays
    reservation: Reservation


class MemoryTier:
    """Owns at most `limit_bytes` of copied arrays, accounted for in `memory`, and nothing else.

    Copies are C-contiguous and begin at multiples of 64 bytes. The lock is held around the table only: copying and
    reserving happen without it, so two threads that put one key at a time both copy, and the later one stays.
    """

    def __init__(self, memory: MemoryManager, limit_bytes: int | None = None) -> None:
        self.limit_bytes = default_limit_bytes(memory.max_memory) if limit_bytes is None else limit_bytes
        self.meter = TierMeter()
        self._memory = memory
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._unregister = memory.register_holder(self._give_back, _POOL)

    @property
    def usage(self) -> TierUsage:
        """What is held now."""
        with self._lock:
            return TierUsage(len(self._kept), self._num_bytes, self.limit_bytes)

    def can_keep(self, num_bytes: int) -> bool:
        """Whether so much fits beside what others use of the pool; what the tier holds itself may go for it."""
        free = self._memory.pool(_POOL).free_bytes + self.usage.num_bytes
        return num_bytes <= min(self.limit_bytes, free)

    def get(self, key: str) -> Arrays | None:
        """See `CacheTier.get`."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        self.meter.count("misses" if kept is None else "hits")
        return None if kept is None else kept.arrays

    def put(self, key: str, arrays: Arrays) -> bool:
        """See `CacheTier.put`. What is larger than the bound, or finds no room in the pool or at all, is not kept."""
        num_bytes = size_of(arrays)
        self.remove(key)
        if not self.can_keep(num_bytes):
            return False
        self._evict(num_bytes - (self.limit_bytes - self.usage.num_bytes))
        try:
            reservation = self._memory.reserve(num_bytes, _POOL)
        except MemoryBudgetError:
            return False
        try:
            kept = _Kept({name: _copy(array) for name, array in arrays.items()}, reservation)
        except MemoryError:
            reservation.release()
            return False
        with self._lock:
            previous = self._kept.pop(key, None)
            self._kept[key] = kept
            self._num_bytes += num_bytes - (0 if previous is None else previous.reservation.num_bytes)
        if previous is not None:
            previous.reservation.release()
        self._evict(self.usage.num_bytes - self.limit_bytes)  # others may have put meanwhile
        return True

    def remove(self, key: str) -> None:
        """See `CacheTier.remove`."""
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is not None:
                self._num_bytes -= kept.reservation.num_bytes
        if kept is not None:
            kept.reservation.release()

    def close(self) -> None:
        """Forget everything and give the memory back."""
        self._unregister()
        with self._lock:
            kept, self._kept, self._num_bytes = list(self._kept.values()), OrderedDict(), 0
        for one in kept:
            one.reservation.release()

    def _give_back(self, num_bytes: int) -> int:
        """What the memory manager asks for: the least recently used entries, as many as it takes."""
        return self._evict(num_bytes)

    def _evict(self, num_bytes: int) -> int:
        freed = 0
        while freed < num_bytes:
            with self._lock:
                if not self._kept:
                    break
                _, kept = self._kept.popitem(last=False)
                self._num_bytes -= kept.reservation.num_bytes
            kept.reservation.release()
            freed += kept.reservation.num_bytes
            self.meter.count("evictions")
        return freed


def _copy(array: Array) -> Array:
    copy = aligned_empty(array.shape, array.dtype)
    np.copyto(copy, array)
    copy.flags.writeable = False
    return copy
