"""`MetadataStore`: an index of datasets, runs, metrics, checkpoints, packages and servings, in SQLite or PostgreSQL.

An index and not the truth: run directories and packages are, and `app/catalogue.py` rebuilds this from them at any
time. So a file that is no database is moved aside, a deleted one is made anew, and nothing waits for it: training
writes through `store/metadata_writer.py`. Only `app` calls it. Importing it imports SQLAlchemy.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from corelane.core.errors import CorelaneError, StateError, TransientError
from corelane.store import metadata_statements as statements
from corelane.store.metadata_engine import (
    BUSY_S,
    WRITES,
    Tell,
    can_share_memory,
    described,
    is_garbage,
    is_transient,
    make_engine,
    sqlite_path,
)
from corelane.store.metadata_records import (
    Checkpoint,
    Dataset,
    Metric,
    PackageRecord,
    Record,
    RunRecord,
    Serving,
    without_secrets,
)
from corelane.store.metadata_schema import MIGRATIONS, Migration, migrate, packages, runs, token


def tell_nobody(event: str, fields: Mapping[str, Any]) -> None:
    """A `Tell` that forgets."""


class MetadataStore:
    """Owns one database, `url` (`sqlite:///<file>`, `postgresql://...`, or `sqlite://` in memory), and nothing else.

    The database is opened, made and migrated at first use. Every call is one transaction with a connection of its own,
    so a store may be used by several threads, and by several processes at once. `tell` hears of a database that was
    moved aside or made anew. `generation` counts the databases met under this URL: when it grows past 1, what was
    written before is gone.

    Raises `ConfigError` for another kind of URL, `MissingDependencyError` without PostgreSQL's driver. Calls raise
    `TransientError` while the database is locked, full or away, and `StateError` when a newer release has written it
    or a record does not fit.
    """

    def __init__(
        self,
        url: str,
        *,
        tell: Tell = tell_nobody,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        self.generation = 0
        self._name = without_secrets(url)
        self._path = sqlite_path(url)
        self._engine = make_engine(url, tell)
        self._tell = tell
        self._migrations = migrations
        self._lock = threading.Lock()
        self._opened: tuple[int, int] | None = None  # the file that was migrated: a deleted one is noticed by it
        self._token: str | None = None  # of the database that was met last

    def write(self, records: Iterable[Record], *, forget: Sequence[str] = ()) -> None:
        """Write all of `records` or none; the runs whose keys are in `forget` are deleted first."""
        with self._transaction(writes=True) as connection:
            if forget:
                statements.forget_runs(connection, forget)
            statements.write(connection, records)

    def forget(self, *, runs: Sequence[str] = (), packages: Sequence[str] = ()) -> None:
        """Delete runs by key (with all that belongs to them) and packages by digest."""
        with self._transaction(writes=True) as connection:
            statements.forget_runs(connection, runs)
            statements.forget_packages(connection, packages)

    def runs(self, title: str | None = None, *, limit: int | None = None) -> list[RunRecord]:
        """Runs, newest first; those of the configuration's name `title` only, where it is given."""
        where = [] if title is None else [runs.c.title == title]
        with self._transaction() as connection:
            return statements.find_runs(connection, *where, limit=limit)

    def run(self, name: str) -> RunRecord | None:
        """The run whose key or directory's name is `name`; the newest of several hosts' runs of one name."""
        with self._transaction() as connection:
            found = statements.find_runs(connection, (runs.c.key == name) | (runs.c.name == name), limit=1)
        return found[0] if found else None

    def dataset(self, key: str) -> Dataset | None:
        """The data set of that key."""
        with self._transaction() as connection:
            return statements.find_dataset(connection, key)

    def metrics(self, run: str) -> list[Metric]:
        """All values of the run of that key, by step, then name."""
        with self._transaction() as connection:
            return statements.find_metrics(connection, run)

    def checkpoints(self, run: str) -> list[Checkpoint]:
        """The checkpoints of the run of that key, oldest first."""
        with self._transaction() as connection:
            return statements.find_checkpoints(connection, run)

    def packages(self, name: str | None = None, *, run: str | None = None) -> list[PackageRecord]:
        """Packages by name and version: all, those of a name, those made of the run of that key."""
        where = [column == value for column, value in ((packages.c.name, name), (packages.c.run, run)) if value]
        with self._transaction() as connection:
            return statements.find_packages(connection, *where)

    def servings(self, digest: str) -> list[Serving]:
        """Who served the package of that digest, oldest first."""
        with self._transaction() as connection:
            return statements.find_servings(connection, digest)

    def close(self) -> None:
        """Let go of the database; a later call would open it again."""
        self._engine.dispose()

    # --- opening ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Connection]:
        try:
            self._open()
            with self._begin(writes=writes) as connection:
                if writes:
                    self._meet(token(connection))
                yield connection
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            self._opened = None  # whatever it was, look again at what is there before the next use
            is_file_broken = self._path is not None and is_garbage(error)
            if is_file_broken:
                self._move_aside(described(error))
            raise self._explained(error, may_pass=is_file_broken or is_transient(error)) from error

    def _explained(self, error: Exception, *, may_pass: bool) -> CorelaneError:
        kind = TransientError if may_pass else StateError
        return kind(
            f"the metadata index {self._name} must take records and answer, got: {described(error)}; "
            "training goes on without it, and `corelane runs reindex` makes it again"
        )

    @contextmanager
    def _begin(self, *, writes: bool) -> Iterator[Connection]:
        with self._engine.connect().execution_options(**{WRITES: writes}) as connection, connection.begin():
            yield connection

    def _open(self) -> None:
        with self._lock:
            if self._opened is not None and self._opened == self._identity():
                return
            try:
                self._make()
            except Exception as error:
                if self._path is None or not is_garbage(error):
                    raise
                self._move_aside(described(error))
                self._make()

    def _make(self) -> None:
        if self._path is not None:
            with _directory_locked(self._path.parent):
                if not self._path.exists():
                    self._create(self._path)
        with self._begin(writes=True) as connection:
            migrate(connection, self._migrations)
            found = token(connection)
        self._opened = self._identity()
        self._meet(found)

    def _meet(self, found: str | None) -> None:
        """Count another database than the last; a file that was made anew may look the same from outside."""
        if found != self._token:
            self.generation += 1
            self._token = found
            if self.generation > 1:
                self._tell("metadata_made_anew", {"action": "corelane runs reindex fills it"})

    def _identity(self) -> tuple[int, int] | None:
        """Which file lies under the path now; the same for ever where there is no file."""
        if self._path is None:
            return (0, 0)
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _create(self, path: Path) -> None:
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
            mode = "WAL" if can_share_memory(path.parent) else "DELETE"
            connection.execute(f"PRAGMA journal_mode={mode}")
            connection.execute("PRAGMA user_version=1")  # so that the file is there and is a database

    def _move_aside(self, reason: str) -> None:
        """Rename the file that is no database, unless another process has done so and made a good one meanwhile."""
        path = cast(Path, self._path)
        aside = path.with_name(f"{path.name}.broken")
        with _directory_locked(path.parent):
            if not _is_broken(path):
                return
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            path.rename(aside)
        self._tell(
            "metadata_broken",
            {"path": str(path), "reason": reason, "moved_to": str(aside), "action": "corelane runs reindex"},
        )


def _is_broken(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
            return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok"
    except sqlite3.OperationalError:
        return False  # locked or unreadable: nothing is known against it
    except sqlite3.DatabaseError:
        return True


@contextmanager
def _directory_locked(directory: Path) -> Iterator[None]:
    """Hold the folder for whoever makes or moves a database in it; the lock ends with the process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks: two first starts at once are the user's to avoid there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
