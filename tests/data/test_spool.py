"""A remote source is read once, to a local copy that has its rows, its positions and its promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.clock import SystemClock
from corelane.core.errors import CursorError, SourceReadError, SourceRestartError
from corelane.data.batch import Batch, BrokenRow, Cursor, Fingerprint
from corelane.data.sources.memory import InMemorySource
from corelane.data.spool import FOLDER, MAX_RESTARTS, spooled
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.shared import SharedTier


class InstantClock(SystemClock):
    """Waits between tries take no time."""

    def sleep(self, seconds: float) -> None:
        del seconds


class Remote:
    """Ten rows in batches of up to four, one of them broken; the first `num_failures` reads break in the middle."""

    name = "remote"
    is_local = False

    def __init__(self, num_failures: int = 0, error: type[SourceReadError] = SourceRestartError) -> None:
        self.num_reads = 0
        self._num_failures = num_failures
        self._error = error

    def schema(self) -> pa.Schema:
        return pa.schema([("a", pa.int64())])

    def fingerprint(self) -> Fingerprint:
        raise AssertionError("a remote source must not be read for its fingerprint")

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        self.num_reads += 1
        for first, end in [(0, 4), (4, 8), (8, 10)]:
            if first == 4 and self.num_reads <= self._num_failures:
                raise self._error("the connection is gone")
            values = [i + 100 * (self.num_reads <= self._num_failures) for i in range(first, end) if i != 5]
            broken = (BrokenRow(5, "torn", "x"),) if first == 4 else ()
            yield Batch(pa.record_batch({"a": values}), first, Cursor("remote", "?", end), broken)


class Once(Remote):
    """A source that gives rows without a fingerprint."""

    def read_once(self) -> Iterator[pa.RecordBatch]:
        for batch in self.batches():
            yield batch.rows


def test_a_local_source_passes_through(tmp_path: Path) -> None:
    """Memory and local files are read where they are."""
    source = InMemorySource([{"a": 1}])
    with spooled(source, DiskTier(tmp_path)) as same:
        assert same is source
    assert not list(tmp_path.iterdir())


def test_a_remote_source_is_read_once_for_many_passes(tmp_path: Path) -> None:
    """Rows, positions and broken rows are those of the source, from any cursor; nothing is left behind."""
    remote = Remote()
    with spooled(remote, DiskTier(tmp_path)) as copy:
        assert copy.is_local
        for _ in range(3):
            batches = list(copy.batches())
            assert [row for batch in batches for row in batch.rows.column("a").to_pylist()] == [
                0,
                1,
                2,
                3,
                4,
                6,
                7,
                8,
                9,
            ]
            assert [position for batch in batches for position in batch.positions.tolist()] == [
                *range(5),
                *range(6, 10),
            ]
            assert [row.position for batch in batches for row in batch.broken] == [5]
        for position in range(11):
            cursor = Cursor("remote", copy.fingerprint().digest, position)
            resumed = [p for batch in copy.batches(cursor) for p in batch.positions.tolist()]
            assert resumed == [p for p in (0, 1, 2, 3, 4, 6, 7, 8, 9) if p >= position]
        with pytest.raises(CursorError):
            list(copy.batches(Cursor("remote", "other", 0)))
        assert remote.num_reads == 1
    assert not list((tmp_path / FOLDER).iterdir())


def test_what_is_read_once_needs_no_fingerprint(tmp_path: Path) -> None:
    """Where the source gives rows alone they are taken, and numbered as they come."""
    with spooled(Once(), DiskTier(tmp_path)) as copy:
        assert [batch.next_cursor.position for batch in copy.batches()] == [4, 7, 9]


def test_a_read_that_cannot_be_continued_is_begun_anew(tmp_path: Path) -> None:
    """What came of a broken read is discarded; the copy holds one whole read, and it is told."""
    told: list[tuple[str, Any]] = []
    remote = Remote(num_failures=2)
    with spooled(remote, DiskTier(tmp_path), tell=lambda *event: told.append(event), clock=InstantClock()) as copy:
        rows = [row for batch in copy.batches() for row in batch.rows.column("a").to_pylist()]
    assert rows == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [event for event, _ in told] == ["source_restarted", "source_restarted", "source_spooled"]


@pytest.mark.parametrize(("error", "num_reads"), [(SourceRestartError, MAX_RESTARTS + 1), (SourceReadError, 1)])
def test_other_failures_and_too_many_are_passed_on(
    tmp_path: Path, error: type[SourceReadError], num_reads: int
) -> None:
    """A source that has given up by itself is not asked again; one that only breaks is asked four times."""
    remote = Remote(num_failures=99, error=error)
    with (
        pytest.raises(SourceReadError, match="connection is gone"),
        spooled(remote, DiskTier(tmp_path), clock=InstantClock()),
    ):
        pytest.fail("spooled")
    assert remote.num_reads == num_reads
    assert not list((tmp_path / FOLDER).iterdir())


def test_the_fingerprint_is_that_of_the_rows(tmp_path: Path) -> None:
    """Two copies of the same rows have one, a copy in which other rows are broken has another."""
    with (
        spooled(Remote(), DiskTier(tmp_path)) as first,
        spooled(Remote(), DiskTier(tmp_path)) as again,
        spooled(Once(), DiskTier(tmp_path)) as other,
    ):
        assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    """A copy that nobody holds any more goes when the next one is made."""
    abandoned = tmp_path / FOLDER / ".remote.0123456789abcdef.tmp"
    abandoned.mkdir(parents=True)
    (abandoned / "rows.arrow").write_bytes(b"half")
    with spooled(Remote(), DiskTier(tmp_path)):
        assert not abandoned.exists()


def test_the_copy_is_archived_by_its_digest(tmp_path: Path) -> None:
    """Shared storage has the rows of a database that may be gone tomorrow, under the fingerprint that runs tell of."""
    archive = SharedTier((tmp_path / "shared").as_uri())
    with spooled(Once(), DiskTier(tmp_path, archive=archive)) as copy:
        digest = copy.fingerprint().digest
    assert archive.fetch("spools", digest, "spools", tmp_path / "restored")
    with pa.memory_map(str(tmp_path / "restored" / "rows.arrow")) as file, pa.ipc.open_file(file) as reader:
        assert reader.read_all()["a"].to_pylist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
