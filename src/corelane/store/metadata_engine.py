"""Connections of the metadata store: which databases there are, how each is opened, what its errors mean.

SQLite runs in WAL mode where the file system can do that, every write begins with `BEGIN IMMEDIATE`, and a wait for a
lock is bounded. PostgreSQL waits are bounded too. Used by `store/metadata.py` only; importing it imports SQLAlchemy.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, StaticPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError

from corelane.core.errors import ConfigError, MissingDependencyError
from corelane.store.metadata_records import without_secrets

Tell: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Who hears of what happened to the index: an event's name and its fields."""

IN_MEMORY = "sqlite://"
BUSY_S = 2.0  # how long one try waits for another writer; the writer's thread tries again
STATEMENT_S = 10.0
WRITES = "corelane_writes"

_NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "lustre",
        "afs",
        "ncpfs",
    }
)  # WAL keeps its index in shared memory, which machines do not share: https://www.sqlite.org/wal.html
_GARBAGE = ("file is not a database", "database disk image is malformed", "unsupported file format")
_MOUNTS = Path("/proc/self/mountinfo")


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL (`sqlite:///relative` or `sqlite:////absolute`); None for another database or none."""
    if not url.startswith("sqlite:"):
        return None
    database = url.removeprefix("sqlite://").removeprefix("/")
    return Path(database) if database and database != ":memory:" else None


def make_engine(url: str, tell: Tell) -> Engine:
    """An engine for `url`; it connects at first use, and keeps no connection between uses.

    Raises `ConfigError` for a URL that is neither SQLite's nor PostgreSQL's, `MissingDependencyError` without psycopg.
    """
    path = sqlite_path(url)
    if path is not None:
        return _file_engine(path, tell)
    if url == IN_MEMORY:
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        _begin_by_hand(engine)
        return engine
    return _server_engine(url)


def is_transient(error: Exception) -> bool:
    """Whether the same write may succeed later: a lock, a full disk, a server that is away."""
    kinds = (OperationalError, InterfaceError, sqlite3.OperationalError, OSError)
    return isinstance(error, kinds) and not is_garbage(error)


def is_garbage(error: Exception) -> bool:
    """Whether the file is no database, or a damaged one."""
    return isinstance(error, (DBAPIError, sqlite3.Error)) and any(text in str(error) for text in _GARBAGE)


def described(error: Exception) -> str:
    """The database's own words, without statement, values and secrets."""
    words = str(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)
    return without_secrets(words.strip().splitlines()[0] if words.strip() else type(error).__name__)


def can_share_memory(path: Path, mounts: str | None = None) -> bool:
    """Whether the file system of the folder `path` lets processes map a file together; `mounts` is mountinfo's text."""
    try:
        device = path.stat().st_dev
        lines = (mounts if mounts is not None else _MOUNTS.read_text(errors="replace")).splitlines()
    except OSError:
        return True
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [wanted] and rest.split()[:1]:
            return rest.split()[0] not in _NETWORK
    return True


# --- SQLite -----------------------------------------------------------------------------------------------------------


def _file_engine(path: Path, tell: Tell) -> Engine:
    """Connections open an existing file only: a deleted one is noticed, and not silently made anew."""
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    wants_wal = can_share_memory(path.parent)
    told: set[str] = set()

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
        try:
            mode = _journal(connection, "WAL" if wants_wal else "DELETE")
        except BaseException:
            connection.close()
            raise
        if mode != "wal" and mode not in told:
            told.add(mode)
            tell(
                "metadata_without_wal", {"path": str(path), "journal_mode": mode, "effect": "readers wait for writers"}
            )
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    _begin_by_hand(engine)
    return engine


def _journal(connection: sqlite3.Connection, wanted: str) -> str:
    connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the last records; reindex has them
    try:
        return str(connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or wanted == "DELETE":
            raise
        return str(connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0])


def _begin_by_hand(engine: Engine) -> None:
    """A write takes the lock when it begins, so that it never has to give up what it has read in between."""

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _server_engine(url: str) -> Engine:
    try:
        address = make_url(url)
        is_postgresql = address.get_backend_name() in ("postgresql", "postgres")
    except ArgumentError:
        is_postgresql = False
    if not is_postgresql:
        raise ConfigError(
            "observe.metadata must be sqlite:///<file> or postgresql://<user>@<host>/<database>, "
            f"got {without_secrets(url)!r}; correct it"
        )
    bounds = f"-c statement_timeout={STATEMENT_S:.0f}s -c lock_timeout={BUSY_S:.0f}s"
    try:
        return create_engine(
            address.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            connect_args={"connect_timeout": 5, "options": bounds, "application_name": "corelane"},
        )
    except (ImportError, NoSuchModuleError) as error:
        raise MissingDependencyError(
            "the PostgreSQL driver psycopg must be installed for observe.metadata, got none; "
            "pip install 'corelane[postgresql]'"
        ) from error
