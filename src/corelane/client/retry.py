"""When a failed request is sent again: only if that can help, soon enough, and as long as the budget lasts.

The budget keeps retries a share of all requests, so that clients do not hold down a server that has too much to do
already (Finagle's retry budget; Brooker, "Exponential backoff and jitter", 2015).
"""

from __future__ import annotations

import math
import random
import threading

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConnectionLostError, CorelaneError, NotReadyError, OverloadedError

AGAIN = (ConnectionLostError, NotReadyError, OverloadedError)
"""What may pass. A deadline that was missed or a failure of the server's would come again, or cost it more."""

MAX_ATTEMPTS = 4
FIRST_WAIT_S, MOST_WAIT_S = 0.05, 2.0
SPREAD = 0.25  # of what the server asks for: those that it refused together do not come back together


class RetryBudget:
    """Owns how many retries there may be: `share` of the requests, and `per_s` a second besides, saved for at most
    `window_s`. May be shared by threads, and by clients of the same server.

    The second is for clients that seldom ask; where many clients retry, it is the first that keeps a server alive.
    """

    def __init__(
        self, share: float = 0.1, per_s: float = 1.0, window_s: float = 10.0, *, clock: Clock | None = None
    ) -> None:
        self._share, self._per_s = share, per_s
        self._most = max(per_s * window_s, 1.0)  # what is saved must come to one at least
        self._monotonic = (clock or SystemClock()).monotonic
        self._lock = threading.Lock()
        self._left = per_s * window_s
        self._seen_s = self._monotonic()

    def request(self) -> None:
        """A request is made for the first time: it saves for a part of a retry."""
        with self._lock:
            self._left = min(self._left + self._share, self._most)

    def take(self) -> bool:
        """Whether one more retry may be made; it is counted if so."""
        with self._lock:
            now_s = self._monotonic()
            self._left = min(self._left + (now_s - self._seen_s) * self._per_s, self._most)
            self._seen_s = now_s
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True


class Attempts:
    """One request's attempts until `deadline_s` (monotonic)."""

    def __init__(self, budget: RetryBudget, deadline_s: float, clock: Clock, random_: random.Random) -> None:
        self._budget = budget
        self._deadline_s = deadline_s
        self._clock = clock
        self._random = random_
        self._done = 0
        budget.request()

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self._deadline_s - self._clock.monotonic()

    def wait_s(self, error: CorelaneError) -> float:
        """How long to wait before the next attempt after `error`; raises `error` when there is to be none."""
        self._done += 1
        wait_s = min(FIRST_WAIT_S * 2.0 ** (self._done - 1), MOST_WAIT_S) * (0.5 + self._random.random())
        if isinstance(error, OverloadedError):
            wait_s = max(wait_s, error.retry_after_s * (1.0 + SPREAD * self._random.random()))
        can_help = isinstance(error, AGAIN) and self._done < MAX_ATTEMPTS and wait_s < self.left_s
        if not can_help or math.isinf(wait_s) or not self._budget.take():
            raise error
        return wait_s
