"""The tables of the metadata store, and the steps that bring a database of an earlier version to the present one.

Migrations only go forward, all of them in one transaction under a lock, so that several processes may start at once.
`store/metadata.py` runs them; nothing else needs this module. Importing it imports SQLAlchemy.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)

from corelane.core.errors import StateError

Migration: TypeAlias = Callable[[Connection], None]

LOCK = 0x636F72656C616E65  # "corelane": the key of PostgreSQL's advisory lock

metadata = MetaData()

schema_version = Table(
    "corelane_schema_version",
    metadata,
    Column("version", Integer, nullable=False),
    Column("token", String(32), nullable=False),  # random: tells a database from the one that lay there before
)

datasets = Table(
    "corelane_datasets",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("strength", String(32), nullable=False),
    Column("digest", String(128), nullable=False),
    Column("source", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("profile", Text),
)

runs = Table(
    "corelane_runs",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("title", Text, nullable=False),
    Column("directory", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("config_digest", String(64), nullable=False),
    Column("config", Text, nullable=False),
    Column("started_s", Double, nullable=False),
    Column("finished_s", Double),
    Column("seed", BigInteger),
    Column("dataset", String(32)),
    Column("pipeline_digest", String(64)),
    Column("num_rejected", BigInteger),
    Column("num_steps", BigInteger),
    Column("num_epochs", BigInteger),
    Column("best_step", BigInteger),
    Column("examples_per_s", Double),
    Column("seconds", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("error", Text),
    Column("seen_s", Double, nullable=False),  # a run of another host that was not heard of for long has died
)

metrics = Table(
    "corelane_metrics",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("value", Double, nullable=False),
    sqlite_with_rowid=False,  # the key is the row: half the size
)

checkpoints = Table(
    "corelane_checkpoints",
    metadata,
    Column("run", String(64), primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("is_best", Boolean, nullable=False),
)

packages = Table(
    "corelane_packages",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("directory", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("task", String(64), nullable=False),
    Column("created", String(64), nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("config_digest", String(64), nullable=False),
    Column("data_digest", String(128), nullable=False),
    Column("metrics", Text, nullable=False),
    Column("run", String(64)),
    Column("checkpoint", String(64)),
)

servings = Table(
    "corelane_servings",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("package", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("url", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("since_s", Double, nullable=False),
    Column("until_s", Double),
)

Index("corelane_runs_started", runs.c.started_s)
Index("corelane_runs_name", runs.c.name)
Index("corelane_packages_name", packages.c.name, packages.c.version)
Index("corelane_packages_run", packages.c.run)
Index("corelane_servings_package", servings.c.package)

CONTENT = (datasets, runs, metrics, checkpoints, packages, servings)
"""All tables but the version's, in the order in which they are written."""


MIGRATIONS: Sequence[Migration] = ()
"""Migration n brings a database of version n + 1 to version n + 2. An empty one gets the tables as they are above."""


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to the present version inside the caller's transaction.

    SQLite's caller holds the write lock already (BEGIN IMMEDIATE); PostgreSQL takes an advisory lock here. Raises
    `StateError` for a database that a newer release has written.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    schema_version.create(connection, checkfirst=True)
    found, wanted = connection.execute(select(schema_version.c.version)).scalar(), len(migrations) + 1
    if found is None:
        metadata.create_all(connection, tables=list(CONTENT))
        connection.execute(insert(schema_version).values(version=wanted, token=secrets.token_hex(16)))
    elif found > wanted:
        raise StateError(
            f"the metadata index must be of version {wanted} or older, got {found}, a newer release wrote it; "
            "upgrade Corelane, or set observe.metadata to another place"
        )
    elif found < wanted:
        for migration in migrations[found - 1 :]:
            migration(connection)
        connection.execute(update(schema_version).values(version=wanted))


def token(connection: Connection) -> str | None:
    """What tells this database from any other that is made under the same URL; None without one."""
    return connection.execute(select(schema_version.c.token)).scalar()
