"""Drivers that do not come back: whoever waits gets an answer, and nothing stays open behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from corelane.core.errors import DataError, SourceReadError
from corelane.data.sources.database import interruptible
from corelane.data.sources.database.interruptible import InterruptibleSnapshot
from corelane.data.sources.database.snapshot import Key

ROWS = pa.RecordBatch.from_pydict({"a": [1, 2]})


class Driver:
    """A snapshot of one batch, behind which it waits until it is let go, or is cancelled if it `can_cancel`."""

    schema = ROWS.schema
    order = ("a",)

    def __init__(self, *, can_cancel: bool) -> None:
        self._can_cancel = can_cancel
        self.let_go = threading.Event()
        self.closed = threading.Event()
        self.threads: set[str] = set()

    def version(self) -> str:
        self.threads.add(threading.current_thread().name)
        return "1"

    def read(self, after: Key | None) -> Iterator[pa.RecordBatch]:
        del after
        self.threads.add(threading.current_thread().name)
        yield ROWS
        self.let_go.wait()
        yield ROWS

    def cancel(self) -> None:
        if self._can_cancel:
            self.let_go.set()

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed.set()


def wrapped(driver: Driver, limit_s: float | None = 0.5) -> InterruptibleSnapshot:
    return InterruptibleSnapshot(lambda: driver, shown="the database", opening_limit_s=5.0, limit_s=limit_s)


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for what does not come."""
    monkeypatch.setattr(interruptible, "GRACE_S", 0.2)


def test_all_calls_are_made_on_one_thread_and_nothing_is_lost() -> None:
    """Drivers may insist on their thread; rows, version and order come through."""
    driver = Driver(can_cancel=False)
    driver.let_go.set()
    snapshot = wrapped(driver)
    assert (snapshot.version(), snapshot.schema, snapshot.order) == ("1", ROWS.schema, ("a",))
    assert list(snapshot.read(None)) == [ROWS, ROWS]
    snapshot.close()
    snapshot.close()
    assert driver.closed.is_set()
    assert driver.threads == {"corelane-database"}


def test_a_slow_statement_is_cancelled() -> None:
    """Beyond the limit it ends, and the error says what to do."""
    driver = Driver(can_cancel=True)
    snapshot = wrapped(driver)
    rows = snapshot.read(None)
    assert next(rows) == ROWS
    with pytest.raises(DataError, match=r"must end within 0\.5 s, got a timeout"):
        next(rows)
    snapshot.close()
    assert driver.closed.is_set()


def test_a_driver_that_cannot_be_cancelled_is_left_and_closes_later() -> None:
    """The caller goes on; the connection is closed when the driver comes back."""
    driver = Driver(can_cancel=False)
    snapshot = wrapped(driver)
    rows = snapshot.read(None)
    next(rows)
    with pytest.raises(SourceReadError, match=r"must answer, got silence for 0\.5 s"):
        next(rows)
    snapshot.close()
    assert not driver.closed.is_set()
    driver.let_go.set()
    assert driver.closed.wait(5.0)


def test_a_connection_that_comes_too_late_is_closed() -> None:
    """Nobody waits for it any more."""
    driver, let_go = Driver(can_cancel=False), threading.Event()

    def connect() -> Driver:
        let_go.wait()
        return driver

    with pytest.raises(SourceReadError, match="got silence"):
        InterruptibleSnapshot(connect, shown="the database", opening_limit_s=0.1, limit_s=0.1)
    let_go.set()
    assert driver.closed.wait(5.0)


def test_an_error_of_the_driver_is_the_callers() -> None:
    """As it was raised, at the opening too."""

    def refuse() -> Driver:
        raise DataError("no such table")

    with pytest.raises(DataError, match="no such table"):
        InterruptibleSnapshot(refuse, shown="the database", opening_limit_s=5.0, limit_s=5.0)
