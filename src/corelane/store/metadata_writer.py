"""`MetadataWriter`: a thread between those who work and the metadata store, so that no work ever waits for an index.

Records are buffered up to a bound, written in batches, and tried again while the store is locked, full or away. What
does not fit is dropped, counted and told once. Importing this is cheap: the store, and with it SQLAlchemy, is made by
`connect` in the thread. `app/recording.py` uses it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from corelane.core.errors import CorelaneError
from corelane.machine.backoff import ExponentialBackoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corelane.store.metadata_records import Record

Tell: TypeAlias = Callable[[str, Mapping[str, Any]], None]

MAX_WAITING = 1000  # records: minutes of a run's; a record is some KB, a batch of metrics some 100 KB
BATCH = 100  # records a transaction: some milliseconds, so that other writers get their turn
CLOSE_S = 5.0  # what a finished run waits for its index at most


class Store(Protocol):
    """What is written to: `MetadataStore`, or a test's."""

    @property
    def generation(self) -> int:
        """How many databases have been met under the URL."""
        ...

    def write(self, records: Sequence[Record], /) -> None:
        """Write all of `records`, or none and raise."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class MetadataWriter:
    """Owns the thread, its buffer and the store that `connect` makes, and nothing else.

    `put` never waits. `num_dropped` counts records that were not written: the buffer was full, the store refused them
    for good, or there was no time left at `close`. `on_loss` is called, in the thread of whoever loses the first of
    them; an index with a gap is stale, and `corelane runs reindex` fills it. `tell` hears of trouble, once for each
    time it begins, and of its end.
    """

    def __init__(
        self,
        connect: Callable[[], Store],
        *,
        tell: Tell,
        on_loss: Callable[[], None] = lambda: None,
        max_waiting: int = MAX_WAITING,
        backoff: ExponentialBackoff | None = None,
    ) -> None:
        self.num_dropped = 0
        self._connect = connect
        self._tell = tell
        self._on_loss = on_loss
        self._max_waiting = max_waiting
        self._backoff = backoff or ExponentialBackoff(initial_s=0.1, maximum_s=10.0)
        self._waiting: deque[Record] = deque()
        self._changed = threading.Condition()  # around the buffer and the flags; released while the store works
        self._is_closing = False
        self._is_given_up = False
        self._store: Store | None = None
        self._thread = threading.Thread(target=self._run, name="metadata", daemon=True)
        self._thread.start()

    @property
    def generation(self) -> int:
        """The store's: when it grows past 1, the database is another one and what was written is gone."""
        return self._store.generation if self._store is not None else 0

    def put(self, record: Record) -> bool:
        """Hand `record` over; False, and counted, when the buffer is full or the store was given up."""
        with self._changed:
            is_taken = not self._is_given_up and not self._is_closing and len(self._waiting) < self._max_waiting
            if is_taken:
                self._waiting.append(record)
                self._changed.notify()
        if not is_taken:
            self._lose(1, "the store is too slow or away")
        return is_taken

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Write what waits, for at most `timeout_s`; whether all of it is written. May be called twice."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            self._is_given_up = True
            num_left = len(self._waiting)
            self._waiting.clear()
        if num_left:
            self._lose(num_left, "the store did not answer before the end")
        return self.num_dropped == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        num_failures, size = 0, BATCH
        while batch := self._next(size):
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001 - an index may fail in any way; its work must not
                if not _may_pass(error):
                    size = self._refused(batch, error)
                    continue
                if num_failures == 0:
                    self._tell("metadata_waits", {"reason": _reason(error), "action": "tried again"})
                if not self._pause(self._backoff.delay_s(num_failures)):
                    break  # closing, and the last try was made
                num_failures += 1
            else:
                self._remove(len(batch))
                if num_failures:
                    self._tell("metadata_goes_on", {"num_failures": num_failures})
                num_failures, size = 0, min(BATCH, size * 2)
        if self._store is not None:
            self._store.close()

    def _next(self, size: int) -> list[Record]:
        """The oldest records, which stay in the buffer until they are written; none when it is time to end."""
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            return [] if self._is_given_up else list(islice(self._waiting, size))

    def _write(self, batch: list[Record]) -> None:
        if self._store is None:
            self._store = self._connect()
        self._store.write(batch)

    def _remove(self, count: int) -> None:
        with self._changed:
            for _ in range(min(count, len(self._waiting))):
                self._waiting.popleft()

    def _refused(self, batch: list[Record], error: Exception) -> int:
        """A record that will never be written is dropped; the others of its batch are tried one by one: the new size.

        A store that cannot even be made takes everything with it.
        """
        if self._store is None:
            with self._changed:
                self._is_given_up, lost = True, len(self._waiting)
            self._remove(lost)
            self._lose(lost, _reason(error))
        elif len(batch) == 1:
            self._remove(1)
            self._lose(1, _reason(error))
        return 1

    def _pause(self, delay_s: float) -> bool:
        """Wait before the next try; False at once when closing has begun and that try has been made."""
        with self._changed:
            if self._is_closing:
                return False
            self._changed.wait_for(lambda: self._is_closing, delay_s)
            return True

    def _lose(self, count: int, reason: str) -> None:
        with self._changed:
            is_first = self.num_dropped == 0
            self.num_dropped += count
        if is_first:
            self._on_loss()
            self._tell("metadata_dropped", {"reason": reason, "action": "corelane runs reindex fills the index"})


def _may_pass(error: Exception) -> bool:
    return isinstance(error, CorelaneError) and error.transient


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, CorelaneError) else f"{type(error).__name__}: {error}"
