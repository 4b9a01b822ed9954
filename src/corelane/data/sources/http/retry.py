"""When a request is sent again: which answers may pass, how long to wait, and when to give up."""

from __future__ import annotations

import email.utils

from corelane.core.clock import Clock
from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.source import Tell
from corelane.data.sources.http.exchange import Reply
from corelane.data.sources.http.pace import Pace
from corelane.machine.backoff import ExponentialBackoff

RETRIED = (408, 429, 500, 502, 503, 504)
MAX_RETRY_AFTER_S = 300.0
_ADVICE = {
    401: "check data.source.headers",
    403: "check data.source.headers",
    404: "check the URL",
    407: "a proxy stands between; none is used here",
    410: "it is gone",
}


class BusyError(SourceReadError):
    """The server answered that it may work later; `retry_after_s` is when, if it said so."""

    code = "source_busy"

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Retries:
    """Owns the waits between the tries of one request and nothing else. `shown` names it in events."""

    def __init__(self, config: HTTPConfig, pace: Pace, shown: str, *, clock: Clock, tell: Tell) -> None:
        self._max_retries = config.max_retries
        self._backoff = ExponentialBackoff(config.max_retries, clock=clock)
        self._pace = pace
        self._shown = shown
        self._clock = clock
        self._tell = tell
        self._num_failures = 0

    def wait(self, error: SourceReadError, *, has_progressed: bool = False) -> None:
        """Wait until the next try is due; one that got further begins the count anew.

        Raises `SourceReadError` from `error` when there is no next try, or when it would be past the deadline.
        """
        self._num_failures = 1 if has_progressed else self._num_failures + 1
        if self._num_failures > self._max_retries:
            raise _given_up(error, f"given up after {self._num_failures} tries without progress") from error
        told_s = error.retry_after_s if isinstance(error, BusyError) else None
        delay_s = self._backoff.delay_s(self._num_failures - 1) if told_s is None else told_s
        if delay_s >= self._pace.left_s():
            raise _given_up(
                error, f"the next try in {delay_s:.0f} s would exceed data.source.total_timeout_s"
            ) from error
        self._tell("source_retrying", {"source": self._shown, "delay_s": delay_s, "reason": error.message})
        self._clock.sleep(delay_s)


def refusal(reply: Reply, clock: Clock) -> DataError | BusyError:
    """The error for an answer that is not the content: `BusyError` when it may pass."""
    if reply.status in RETRIED:
        delay_s = retry_after_s(reply.headers.get("retry-after"), clock)
        return BusyError(f"{reply.shown} must answer 200, got {reply.status}; it is tried again", delay_s)
    advice = _ADVICE.get(reply.status, "check the URL")
    return DataError(f"{reply.shown} must answer 200, got {reply.status}; {advice}")


def retry_after_s(value: str | None, clock: Clock) -> float | None:
    """The `Retry-After` header in seconds, at most `MAX_RETRY_AFTER_S`; None without a valid one."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value.strip()[:9]), MAX_RETRY_AFTER_S)
    try:
        moment_s = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(moment_s - clock.now(), 0.0), MAX_RETRY_AFTER_S)


def _given_up(error: SourceReadError, why: str) -> SourceReadError:
    return SourceReadError(f"{error.message.partition('; ')[0]}; {why}", detail=error.detail)
