"""A worker that hangs ends itself with its stacks on standard error, so that the supervisor can start another.

A run in the executor's thread that hangs leaves the event loop alive, which sees how long ago it began. A loop that
hangs itself, in a run inline or in a library that never gives the interpreter back, is seen by a thread of
`faulthandler`, which needs no interpreter to end the process.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
from collections.abc import Callable, Iterable
from typing import Protocol

EXIT_HUNG = 1  # a failure of unknown kind: worth the ration of restarts. `faulthandler` ends a process so, too
MOST_BEAT_S = 1.0


class Running(Protocol):
    """Something that runs a model."""

    def running_s(self) -> float:
        """Seconds since the run in the executor began; 0 while none is there."""
        ...


async def end_if_hung(running: Callable[[], Iterable[Running]], limit_s: float, tell: Callable[[float], None]) -> None:
    """End this process when the event loop, or a run of one that is `running` then, has hung for `limit_s`.

    It looks until it is cancelled. `tell` is called with the seconds before the end, where the loop is alive to do so.
    """
    beat_s = min(limit_s / 4, MOST_BEAT_S)
    try:
        while True:
            faulthandler.dump_traceback_later(limit_s, exit=True)
            longest_s = max((one.running_s() for one in running()), default=0.0)
            if longest_s > limit_s:
                tell(longest_s)
                faulthandler.dump_traceback()
                os._exit(EXIT_HUNG)
            await asyncio.sleep(beat_s)
    finally:
        faulthandler.cancel_dump_traceback_later()
