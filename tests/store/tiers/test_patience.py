"""A store that fails or hangs is asked once, told of once, and never waited for again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from corelane.store.tiers.patience import Patience


def test_after_a_failure_nothing_is_asked() -> None:
    """What a call gives comes back; the first error is told with its cause, and is the last."""
    told: list[Any] = []
    patience = Patience("s3://a", 30, lambda event, fields: told.append((event, fields["reason"])))
    assert patience.ask(lambda: 1) == 1
    patience.check()
    assert patience.ask(lambda: 1 // 0) is None
    assert patience.ask(lambda: 1) is None
    assert told == [("cache_shared_failed", "ZeroDivisionError: integer division or modulo by zero")]
    with pytest.raises(TimeoutError):
        patience.check()


def test_late_work_is_left_behind_and_stops() -> None:
    """A call that is late gives None; when it goes on, it meets `check` and ends."""
    told: list[str] = []
    patience = Patience("s3://a", 0.01, lambda event, fields: told.append(fields["reason"]))
    may_go_on, has_ended = threading.Event(), threading.Event()

    def work() -> None:
        may_go_on.wait()
        try:
            patience.check()
        finally:
            has_ended.set()

    assert patience.ask(work) is None
    may_go_on.set()
    assert has_ended.wait(30)
    assert told == ["no answer within 0 s"]
