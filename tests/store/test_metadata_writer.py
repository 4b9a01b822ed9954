"""The thread before the metadata store: nobody waits for it, what it cannot keep is counted, and it ends."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from corelane.core.errors import ConfigError, StateError, TransientError
from corelane.machine.backoff import ExponentialBackoff
from corelane.store.metadata_records import Record
from corelane.store.metadata_writer import BATCH, MetadataWriter
from tests.store.metadata_examples import run

AT_ONCE = ExponentialBackoff(initial_s=0.0, maximum_s=0.0, jitter_s=0.0)


class Memory:
    """A store that remembers what is written, after failing as it is told to."""

    generation = 1

    def __init__(self, *failures: Exception) -> None:
        self.records: list[Record] = []
        self.sizes: list[int] = []
        self.failures = list(failures)
        self.bad: set[str] = set()
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_entered = threading.Event()
        self.is_closed = False

    def write(self, records: Any) -> None:
        self.is_entered.set()
        assert self.is_open.wait(10.0)
        if self.failures:
            raise self.failures.pop(0)
        if any(record.name in self.bad for record in records):
            raise StateError("a record does not fit")
        self.sizes.append(len(records))
        self.records += records

    def close(self) -> None:
        self.is_closed = True


class Told:
    """What a writer told, and how often it spoke of a loss."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.num_losses = 0

    def tell(self, event: str, fields: Mapping[str, Any]) -> None:
        self.events.append(event)

    def lose(self) -> None:
        self.num_losses += 1


def writer(store: Memory, told: Told, **options: Any) -> MetadataWriter:
    return MetadataWriter(lambda: store, tell=told.tell, on_loss=told.lose, backoff=AT_ONCE, **options)


def test_everything_is_written_in_order_and_in_batches() -> None:
    """What is put before `close` is in the store after it."""
    store, told = Memory(), Told()
    store.is_open.clear()
    with writer(store, told) as made:
        assert all(made.put(run(number)) for number in range(1, 4))
        store.is_entered.wait(10.0)
        assert all(made.put(run(number)) for number in range(4, 300))
        store.is_open.set()
    assert store.records == [run(number) for number in range(1, 300)]
    assert max(store.sizes) <= BATCH
    assert store.is_closed
    assert (made.num_dropped, told.events) == (0, [])


def test_nobody_waits_and_what_does_not_fit_is_counted_once_told() -> None:
    """With the store stuck, `put` returns at once; the index is called stale one time, however much is lost."""
    store, told = Memory(), Told()
    store.is_open.clear()
    made = writer(store, told, max_waiting=10)
    taken = [made.put(run(number)) for number in range(1, 101)]
    assert sum(taken) == 10
    assert (made.num_dropped, told.num_losses, told.events) == (90, 1, ["metadata_dropped"])
    store.is_open.set()
    assert made.close() is False
    assert len(store.records) == 10


def test_what_may_pass_is_tried_again() -> None:
    """A locked, full or absent store costs nothing but time, and its end is told as its beginning is, once each."""
    store, told = Memory(*[TransientError("locked")] * 3), Told()
    made = writer(store, told)
    made.put(run(1))
    while not store.records:
        store.is_entered.wait(0.01)
    made.close()
    assert store.records == [run(1)]
    assert told.events == ["metadata_waits", "metadata_goes_on"]
    assert made.num_dropped == 0


def test_a_record_that_never_fits_goes_alone() -> None:
    """The others of its batch are written."""
    store, told = Memory(), Told()
    store.bad = {"digits-005"}
    store.is_open.clear()
    with writer(store, told) as made:
        for number in range(1, 11):
            made.put(run(number))
        store.is_open.set()
    assert [record.name for record in store.records] == [f"digits-{n:03d}" for n in range(1, 11) if n != 5]  # type: ignore[union-attr]
    assert (made.num_dropped, told.events) == (1, ["metadata_dropped"])


def test_an_error_nobody_foresaw_ends_nothing() -> None:
    """A mistake in the store costs the record, not the thread and not the run."""
    store, told = Memory(ZeroDivisionError("a mistake of ours")), Told()
    with writer(store, told) as made:
        made.put(run(1))
        while made.num_dropped == 0:
            store.is_entered.wait(0.01)
        made.put(run(2))
    assert store.records == [run(2)]


def test_a_store_that_cannot_be_made_is_given_up() -> None:
    """A wrong URL or a missing driver is told once; records are counted and forgotten."""
    told = Told()

    def connect() -> Memory:
        raise ConfigError("observe.metadata must be a URL")

    made = MetadataWriter(connect, tell=told.tell, on_loss=told.lose, backoff=AT_ONCE)
    made.put(run(1))
    while made.num_dropped == 0:
        threading.Event().wait(0.01)
    assert made.put(run(2)) is False
    assert made.close() is False
    assert (made.num_dropped, told.num_losses, told.events) == (2, 1, ["metadata_dropped"])


def test_the_end_does_not_wait_for_a_store_that_is_stuck() -> None:
    """`close` returns after its bound; what was not written is counted."""
    store, told = Memory(), Told()
    store.is_open.clear()
    made = writer(store, told)
    made.put(run(1))
    made.put(run(2))
    store.is_entered.wait(10.0)
    assert made.close(timeout_s=0.05) is False
    assert made.num_dropped == 2
    store.is_open.set()
    assert made.close() is False


def test_the_end_makes_one_more_try_and_no_others() -> None:
    """A store that is away at the end is not waited for."""
    store, told = Memory(*[TransientError("away")] * 1000), Told()
    slow = ExponentialBackoff(initial_s=60.0, maximum_s=60.0, jitter_s=0.0)
    made = MetadataWriter(lambda: store, tell=told.tell, on_loss=told.lose, backoff=slow)
    made.put(run(1))
    store.is_entered.wait(10.0)
    assert made.close(timeout_s=10.0) is False
    assert len(store.failures) >= 998
    assert made.num_dropped == 1


def test_many_threads_may_put() -> None:
    """No record of any thread is lost or doubled."""
    store, told = Memory(), Told()
    with writer(store, told, max_waiting=10_000) as made:
        threads = [
            threading.Thread(target=lambda first=first: [made.put(run(number)) for number in range(first, first + 200)])
            for first in (1, 201, 401, 601)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(record.name for record in store.records) == [f"digits-{n:03d}" for n in range(1, 801)]  # type: ignore[union-attr]
