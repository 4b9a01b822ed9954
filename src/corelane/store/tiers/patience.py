"""`Patience` with a store that may fail or hang: its calls run for so long, and after the first failure not at all.

A hanging driver cannot be interrupted, so each call runs in a thread of its own, which is left behind when it is late.
Used by `shared.py`; it knows nothing of what the calls do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from corelane.store.tiers.tier import Tell

TIMEOUT_S = 30.0  # for a call's first byte; a store that takes longer would hold up every run
SLOWEST_BYTES_PER_S = 1 << 20  # below that, fetching a thing again from where it came is faster

ResultT = TypeVar("ResultT")


class Patience:
    """Owns whether the store at `url` is still asked, and nothing else. `tell` hears once that it is not any more."""

    def __init__(self, url: str, timeout_s: float, tell: Tell) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._tell = tell
        self._is_over = False

    def ask(self, work: Callable[[], ResultT], num_bytes: int = 0) -> ResultT | None:
        """What `work` gives; None when it fails or takes too long for `num_bytes`, or when an earlier call did."""
        if self._is_over:
            return None
        limit_s = self._timeout_s + num_bytes / SLOWEST_BYTES_PER_S
        results: list[ResultT] = []
        errors: list[str] = []

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001 - drivers raise what they like, and nothing here may end a run
                errors.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=run, name="corelane-shared", daemon=True)
        thread.start()
        thread.join(limit_s)
        if thread.is_alive():
            errors = [f"no answer within {limit_s:.0f} s"]
        if errors and not self._is_over:
            self._is_over = True
            self._tell("cache_shared_failed", {"url": self._url, "reason": errors[0], "action": "going on without it"})
        return results[0] if results and not errors else None

    def check(self) -> None:
        """For long work to stop at when it was given up. Raises `TimeoutError`."""
        if self._is_over:
            raise TimeoutError("the shared tier is off")

    def end(self) -> None:
        """No more calls; one that still runs ends by itself, and is not told of."""
        self._is_over = True
