"""A snapshot whose driver works on a thread of its own: whoever waits for rows can be interrupted, and not for ever.

A driver that waits for its server holds the thread it was called on, and Python's signal handlers with it; and a server
that is reachable and silent would be waited for without end. So the caller waits for a future here. A wait beyond the
limit cancels the statement, and a thread that still does not come back is left to itself: it closes the connection when
it does. `source.py` wraps every snapshot in this one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

import pyarrow as pa

from corelane.core.errors import CorelaneError, DataError, SourceReadError
from corelane.data.sources.database.snapshot import Key, Snapshot
from corelane.data.sources.database.sql import timed_out

GRACE_S = 5.0  # for a statement to end after it was cancelled, and for a connection to close

_Result = TypeVar("_Result")


class InterruptibleSnapshot:
    """See `Snapshot`. `connect` opens the snapshot that is wrapped, whose calls may each take `limit_s`, opening
    `opening_limit_s` (None: any time). `shown` names the database.

    Raises what `connect` raises, `DataError` for a statement beyond the limit, `SourceReadError` when nothing is heard
    of the server even then.
    """

    def __init__(
        self, connect: Callable[[], Snapshot], *, shown: str, opening_limit_s: float | None, limit_s: float | None
    ) -> None:
        self._shown = shown
        self._limit_s = limit_s
        self._thread = _DriverThread()
        self._ended: Future[None] | None = None
        self._opened = self._thread.submit(connect)
        self._running: Future[Any] = self._opened
        try:
            self._snapshot = self._result(self._opened, opening_limit_s)
        except BaseException:
            self.close()
            raise

    @property
    def schema(self) -> pa.Schema:
        """See `Snapshot.schema`."""
        return self._snapshot.schema

    @property
    def order(self) -> tuple[str, ...]:
        """See `Snapshot.order`."""
        return self._snapshot.order

    def version(self) -> str:
        """See `Snapshot.version`."""
        return self._call(self._snapshot.version)

    def read(self, after: Key | None) -> Iterator[pa.RecordBatch]:
        """See `Snapshot.read`. It is read on the driver's thread, one batch at a time, when the next one is wanted."""
        rows = self._snapshot.read(after)
        try:
            while (batch := self._call(lambda: next(rows, None))) is not None:
                yield batch
        finally:
            if isinstance(rows, Generator):
                self._thread.submit(rows.close)  # there, where it may still run

    def cancel(self) -> None:
        """See `Snapshot.cancel`."""
        self._snapshot.cancel()

    def close(self) -> None:
        """See `Snapshot.close`. A statement that still runs is cancelled; the connection is closed behind it."""
        if self._ended is None:
            self._ended = self._thread.end(self._close_opened)
            if not self._running.done():
                self._give_up()
            wait([self._ended], GRACE_S)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _call(self, function: Callable[[], _Result]) -> _Result:
        future = self._thread.submit(function)
        self._running = future
        return self._result(future, self._limit_s)

    def _result(self, future: Future[_Result], limit_s: float | None) -> _Result:
        wait([future], limit_s)
        if future.done():
            return future.result()
        if self._give_up():
            raise DataError(timed_out(self._shown, limit_s or 0.0))
        raise SourceReadError(f"{self._shown} must answer, got silence for {limit_s:g} s; it may work later")

    def _give_up(self) -> bool:
        """Cancel what runs; whether it ended."""
        if self._opened.done() and self._opened.exception() is None:
            # On a thread: cancelling connects to the server anew, which may be just what does not work.
            threading.Thread(target=self._cancel, name="corelane-database-cancel", daemon=True).start()
            wait([self._running], GRACE_S)
        return self._running.done()

    def _cancel(self) -> None:
        with suppress(CorelaneError):
            self._opened.result().cancel()

    def _close_opened(self) -> None:
        if self._opened.exception() is None:
            self._opened.result().close()


class _DriverThread:
    """Owns a thread that makes one call after the other, and nothing else. It does not keep the process alive."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="corelane-database", daemon=True).start()

    def submit(self, function: Callable[[], _Result]) -> Future[_Result]:
        """The result of `function`, once it was called."""
        future: Future[_Result] = Future()
        self._calls.put((future, function))
        return future

    def end(self, last: Callable[[], None]) -> Future[None]:
        """Make one more call, after all others, and end the thread."""
        future = self.submit(last)
        self._calls.put(None)
        return future

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits for it
                future.set_exception(error)
            del call, future, function
