"""A disk that fills up while rows are brought to it: an error that says so at once, and nothing left behind."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.core.errors import DiskFullError
from corelane.data.config import DatabaseConfig, FileSystemConfig, HTTPConfig
from corelane.data.sources.database import DatabaseSource
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.http import HTTPSource
from corelane.data.spool import spooled
from corelane.store.tiers.disk import DiskTier
from tests.faults.http_server import Content, FaultServer
from tests.servers.s3 import Bucket

pytestmark = pytest.mark.needs("mount")

ROWS = b"a\n" + b"0123456789abcde\n" * 500_000  # 8 MB
FITTING = b"a\n" + b"0123456789abcde\n" * 75_000  # 1.2 MB
Telling = Callable[[str, Any], None]


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def database(folder: Path, num_rows: int) -> str:
    """The URL of one with as many rows of about 160 bytes."""
    with sqlite3.connect(folder / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, word TEXT)")
        connection.executemany("INSERT INTO rows (word) VALUES (?)", [("0123456789abcde" * 10,)] * num_rows)
    connection.close()
    return f"sqlite:///{folder}/rows.db"


def refused(read: Callable[[Telling], object], disk: Path) -> None:
    """`read` fails for want of room, without a second try, and what it had written is gone."""
    told: list[str] = []
    with pytest.raises(DiskFullError, match="free"):
        read(lambda event, fields: told.append(event))
    assert not {"source_restarted", "source_retrying", "source_reconnecting"} & set(told)
    assert sum(path.stat().st_size for path in disk.rglob("*") if path.is_file()) < 10_000


@pytest.fixture
def older(small_disk: Path) -> DiskTier:
    """A cache on the small disk, more than half of it taken by an entry that nobody uses."""
    tier = DiskTier(small_disk)
    assert tier.put("older", {"x": np.ones(1200 << 10, dtype=np.uint8)})
    return tier


def test_a_download_takes_the_place_of_older_entries(older: DiskTier) -> None:
    """What a server sends without saying how much fits once others have gone."""
    with FaultServer() as server:
        server.routes["/rows.csv"] = Content(FITTING)
        config = HTTPConfig(url=server.url + "/rows.csv", allow_http=True, allow_private=["127.0.0.1"])
        source = HTTPSource(config, cache=older)
        assert sum(batch.rows.num_rows for batch in source.batches()) == 75_000
    assert older.get("older") is None


def test_a_spool_takes_the_place_of_older_entries(older: DiskTier, tmp_path: Path) -> None:
    """Nor does a database say how large its rows are."""
    source = DatabaseSource(DatabaseConfig(url=database(tmp_path, 8_000), table="rows"))
    with spooled(source, older) as copy:
        assert sum(batch.rows.num_rows for batch in copy.batches()) == 8_000
    assert older.get("older") is None


def test_an_object_that_does_not_fit(small_disk: Path, bucket: Bucket) -> None:
    """A full disk is no fault of the store: nothing is fetched again."""
    bucket.files.pipe(f"{bucket.url}/rows.csv", ROWS)
    config = FileSystemConfig(path=f"{bucket.url}/rows.csv", storage_options=bucket.options)
    refused(lambda tell: FileSystemSource(config, cache=DiskTier(small_disk), tell=tell), small_disk)


def test_a_download_that_does_not_fit(small_disk: Path) -> None:
    """Nor of the server."""
    with FaultServer() as server:
        server.routes["/rows.csv"] = Content(ROWS)
        config = HTTPConfig(url=server.url + "/rows.csv", allow_http=True, allow_private=["127.0.0.1"])
        refused(lambda tell: HTTPSource(config, cache=DiskTier(small_disk), tell=tell).schema(), small_disk)
        assert len(server.asked) == 1


def test_a_database_that_does_not_fit(small_disk: Path, tmp_path: Path) -> None:
    """Nor of the database."""
    url = database(tmp_path, 50_000)

    def copy(tell: Telling) -> None:
        source = DatabaseSource(DatabaseConfig(url=url, table="rows"), tell=tell)
        with spooled(source, DiskTier(small_disk), tell=tell):
            pass

    refused(copy, small_disk)
