"""A PostgreSQL server with the table that is read, started for one run of the benchmark by the code the tests have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from benchmarks.data.generate import SEED
from benchmarks.measure import BenchmarkError, say

TABLE = "measurements"
_CHUNK_ROWS = 100_000


@contextmanager
def server_with_table(num_rows: int) -> Iterator[str]:
    """URL of a database that has `TABLE`, vacuumed, for as long as the context lasts.

    Raises `BenchmarkError` where PostgreSQL is not installed.
    """
    from tests.servers.postgres import PostgresServer, postgres_program

    if postgres_program("initdb") is None:
        raise BenchmarkError("PostgreSQL must be installed for this case, got none; apt-get install postgresql")
    with TemporaryDirectory(prefix="corelane-benchmark-") as folder:
        server = PostgresServer(Path(folder))
        try:
            url = server.new_database()
            say(f"loading {num_rows} rows into PostgreSQL ...")
            _load(url, num_rows)
            server.execute(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id)", url)
            server.execute(f"VACUUM ANALYZE {TABLE}", url)  # else the first reader writes to every page
            yield url
        finally:
            server.stop()


def _load(url: str, num_rows: int) -> None:
    import adbc_driver_postgresql.dbapi

    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        for first in range(0, num_rows, _CHUNK_ROWS):
            mode = "create" if first == 0 else "append"
            cursor.adbc_ingest(TABLE, rows(first, min(_CHUNK_ROWS, num_rows - first)), mode=mode)
        connection.commit()


def rows(first: int, count: int) -> pa.Table:
    """Rows `first` to `first + count`: 20 columns, `id`, 10 doubles, 4 whole numbers, 4 texts, a timestamp; gaps in the
    doubles.
    """
    random = np.random.default_rng([SEED, first])
    columns: dict[str, pa.Array] = {"id": pa.array(np.arange(first, first + count))}
    for index in range(10):
        columns[f"value_{index}"] = pa.array(random.normal(0.0, 10.0, count), mask=random.random(count) < 0.02)
    for index in range(4):
        columns[f"count_{index}"] = pa.array(random.integers(0, 100_000, count, dtype=np.int32))
    for index in range(4):
        levels = pa.array([f"level {level}" for level in range(10)])
        columns[f"kind_{index}"] = levels.take(pa.array(random.integers(0, 10, count)))
    moments = random.integers(0, 10**9, count) * 10**6
    columns["moment"] = pa.array(moments).cast(pa.timestamp("us"))
    return pa.table(columns)
