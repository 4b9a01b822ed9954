"""Waits between tries: counted anew after progress, as long as the server says, never past the deadline."""

from __future__ import annotations

import pytest

from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.sources.http.exchange import Reply
from corelane.data.sources.http.pace import Pace
from corelane.data.sources.http.retry import BusyError, Retries, refusal, retry_after_s
from tests.data.sources.http.clocks import HandClock


def retries(clock: HandClock, **config: float) -> Retries:
    settings = HTTPConfig(url="https://h/", **{"max_retries": 2, "total_timeout_s": 60.0, **config})
    pace = Pace(settings, clock, "https://h/")
    return Retries(settings, pace, "https://h/", clock=clock, tell=lambda event, fields: None)


def test_failures_in_a_row_are_counted() -> None:
    """The one beyond `max_retries` is the last; one with progress is the first again."""
    clock = HandClock()
    tries = retries(clock)
    error = SourceReadError("it must answer, got silence; it is tried again")
    tries.wait(error)
    tries.wait(error)
    tries.wait(error, has_progressed=True)
    tries.wait(error)
    with pytest.raises(SourceReadError, match=r"got silence; given up after 3 tries"):
        tries.wait(error)
    assert len(clock.slept_s) == 4


def test_the_servers_word_counts_within_the_deadline() -> None:
    """As long as it says; what would end after the deadline is not waited for."""
    clock = HandClock()
    tries = retries(clock)
    tries.wait(BusyError("busy", 7.0))
    assert clock.slept_s == [7.0]
    with pytest.raises(SourceReadError, match="the next try in 55 s would exceed"):
        tries.wait(BusyError("busy", 55.0))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999999999999999999", 300.0),
        ("Mon, 01 Jan 2024 00:00:30 GMT", 30.0),
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds or a date; at most five minutes, never in the past, and rubbish is nothing."""
    assert retry_after_s(value, HandClock()) == seconds


def test_what_may_pass_and_what_may_not() -> None:
    """By status, each with what to do."""

    def said(status: int) -> Exception:
        return refusal(Reply("https://h/", status, {"retry-after": "3"}, iter(())), HandClock())

    busy = said(503)
    assert isinstance(busy, BusyError)
    assert busy.retry_after_s == 3.0
    for status, advice in ((401, "headers"), (404, "check the URL"), (501, "check the URL")):
        error = said(status)
        assert isinstance(error, DataError)
        assert advice in str(error)
