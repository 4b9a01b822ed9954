"""The slowest requests of the last minute or two, with where their time went, for whoever asks later what was slow.

Kept always, since what was slow is known only afterwards: a batch costs one comparison unless it is among the slowest.
What was sent is not kept.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import asdict, dataclass

from corelane.core.types import JsonObject
from corelane.serve.request import Receipt

KEPT = 16
WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class SlowRequest:
    """One request: seconds from the queue to its answer, its rows and bytes, when it ended (monotonic), its receipt."""

    total_s: float
    num_rows: int
    num_bytes: int
    ended_s: float
    receipt: Receipt


class Slowest:
    """Owns the slowest requests of this window of a minute and of the last one."""

    def __init__(self) -> None:
        self._began_s = -math.inf
        self._now: list[tuple[float, int, SlowRequest]] = []
        self._before: list[tuple[float, int, SlowRequest]] = []
        self._count = 0
        self.floor_s = 0.0
        """Slower ones are kept."""

    def offer(self, one: SlowRequest) -> None:
        """Keep `one` if it is among the slowest."""
        if one.ended_s - self._began_s > WINDOW_S:
            self._before = self._now if one.ended_s - self._began_s <= 2 * WINDOW_S else []
            self._now, self._began_s = [], one.ended_s
        self._count += 1
        entry = (one.total_s, self._count, one)
        if len(self._now) < KEPT:
            heapq.heappush(self._now, entry)
        else:
            heapq.heappushpop(self._now, entry)
        self.floor_s = self._now[0][0] if len(self._now) == KEPT else 0.0

    def due(self, total_s: float, now_s: float) -> bool:
        """Whether a request of `total_s` seconds would be kept: by far the most are not."""
        return total_s > self.floor_s or now_s - self._began_s > WINDOW_S

    def to_json(self, now_s: float) -> list[JsonObject]:
        """The slowest first; times in microseconds, ages in seconds."""
        found = [one for _, _, one in (*self._now, *self._before) if now_s - one.ended_s <= 2 * WINDOW_S]
        found.sort(key=lambda one: one.total_s, reverse=True)
        return [_told(one, now_s) for one in found[:KEPT]]


def _told(one: SlowRequest, now_s: float) -> JsonObject:
    facts = asdict(one)
    return {
        "total_us": round(one.total_s * 1e6),
        "age_s": round(now_s - facts["ended_s"], 1),
        "rows": one.num_rows,
        "bytes": one.num_bytes,
        **one.receipt.parameters(),
    }
