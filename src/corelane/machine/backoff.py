"""Exponential backoff with jitter: how long to wait between tries, and a loop that tries again.

    for attempt in backoff.attempts(on=TransientError):
        with attempt:
            read()

Not stamina, whose shape this is: stamina waits with `time.sleep` and draws jitter from the process-wide generator, so
neither a `Clock` nor a seed can be given to it, and any library may switch it off for the whole process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, TypeAlias

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError

Retryable: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Which errors deserve another try: classes, or a judgement such as `HealthChecker().is_recoverable`."""

_MAX_DOUBLINGS = 64  # 0.1 s doubled 64 times exceeds any maximum, and 2.0**1024 would overflow


class ExponentialBackoff:
    """Owns the waits between tries and nothing else. Wait n is `initial_s * 2**n` plus jitter, at most `maximum_s`.

    `max_retries` is how often a failed call is tried again (so one more call than that). Without a `seed` the jitter
    comes from the operating system, so that many processes do not come back at the same instant. Raises `ConfigError`
    for a negative number of retries and for waits that contradict each other.
    """

    def __init__(
        self,
        max_retries: int = 3,
        *,
        initial_s: float = 0.1,
        maximum_s: float = 10.0,
        jitter_s: float = 0.1,
        seed: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        if max_retries < 0:
            raise ConfigError(f"max_retries must be at least 0, got {max_retries!r}; 0 means: never try again")
        if not 0 <= initial_s <= maximum_s or jitter_s < 0:
            raise ConfigError(
                "backoff waits must satisfy 0 <= initial_s <= maximum_s and jitter_s >= 0, "
                f"got initial_s={initial_s!r}, maximum_s={maximum_s!r}, jitter_s={jitter_s!r}; correct them"
            )
        self.max_retries = max_retries
        self._initial_s = initial_s
        self._maximum_s = maximum_s
        self._jitter_s = jitter_s
        self._random = random.Random(seed)  # noqa: S311 (spreads waits in time; guards no secret)
        self._clock = clock or SystemClock()

    def delay_s(self, retry: int) -> float:
        """Seconds to wait before retry number `retry`, counted from 0; draws new jitter each time."""
        doubled = self._initial_s * 2.0 ** min(retry, _MAX_DOUBLINGS)
        return min(self._maximum_s, doubled + self._random.uniform(0.0, self._jitter_s))

    def delays(self) -> Iterator[float]:
        """The `max_retries` waits of one series, in seconds."""
        return (self.delay_s(retry) for retry in range(self.max_retries))

    def attempts(self, on: Retryable) -> Iterator[Attempt]:
        """Attempts to enter one after another, until one ends without an error.

        An error that `on` does not cover, and the error of the last attempt, pass through unchanged. Waits between
        attempts on the clock, never after the last.
        """
        delays = self.delays()
        number = 1
        while True:
            delay_s = next(delays, None)
            attempt = Attempt(number, on if delay_s is not None else ())
            yield attempt
            if delay_s is None or not attempt.failed:
                return
            self._clock.sleep(delay_s)
            number += 1


class Attempt(AbstractContextManager["Attempt"]):
    """One try: swallows an error that is worth another one and remembers it. `number` counts from 1."""

    def __init__(self, number: int, on: Retryable) -> None:
        self.number = number
        self.failed = False
        self._on = on

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False] | bool:
        """True (try again) for an error that `on` covers."""
        self.failed = error is not None and _covers(self._on, error)
        return self.failed


def _covers(on: Retryable, error: BaseException) -> bool:
    if isinstance(on, (type, tuple)):
        return isinstance(error, on)
    return on(error)
