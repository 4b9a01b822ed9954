"""What is kept of a URL between runs: found again, believed only if it is whole, and made by one at a time."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corelane.core.clock import SystemClock
from corelane.data.config import HTTPConfig
from corelane.data.sources.http import HTTPSource
from corelane.data.sources.http.kept import Kept
from corelane.data.sources.http.version import Validators
from corelane.store.tiers.disk import DiskTier
from tests.faults.http_server import Asked, Content, FaultServer

CSV = b"a\n" + b"1\n" * 10_000
CONFIG = HTTPConfig(url="https://h/rows.csv")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server on loopback."""
    with FaultServer() as made:
        yield made


def kept(folder: Path, config: HTTPConfig = CONFIG) -> Kept:
    return Kept(DiskTier(folder), config, clock=SystemClock())


def filled(folder: Path, data: bytes = CSV, etag: str | None = '"1"') -> Kept:
    """One with `data` in it."""
    made = kept(folder)
    (folder / "new.csv").write_bytes(data)
    made.keep(folder / "new.csv", Validators(etag, None), ("0" * 64, hashlib.sha256(data).hexdigest()))
    return made


def test_the_newest_is_found_with_its_version(tmp_path: Path) -> None:
    """Whatever came before it; by the digest of either form, and not by another."""
    filled(tmp_path, b"a\n0\n")
    found = filled(tmp_path).newest(None)
    assert found is not None
    assert found[0].path.read_bytes() == CSV
    assert found[1] == Validators('"1"', None)
    assert kept(tmp_path).newest("0" * 64) is not None
    assert kept(tmp_path).newest("1" * 64) is None


def test_without_a_version_nothing_is_noted(tmp_path: Path) -> None:
    """The next run could not ask whether it still holds."""
    assert filled(tmp_path, etag=None).newest(None) is None


def test_another_url_or_walk_is_another_download(tmp_path: Path) -> None:
    """The configured paging belongs to what a URL gives."""
    filled(tmp_path)
    assert kept(tmp_path, HTTPConfig(url="https://h/rows.csv?v=2")).newest(None) is None
    paged = HTTPConfig(url="https://h/rows.csv", paging={"next_link": "next"})  # type: ignore[arg-type]
    assert kept(tmp_path, paged).newest(None) is None


def test_other_headers_are_another_download(tmp_path: Path) -> None:
    """Another client, language or format of the answer is another content; the case and order of names are not."""

    def of(**headers: str) -> Kept:
        return kept(tmp_path, HTTPConfig(url="https://h/rows.csv", headers=headers))

    keys = [of(), of(Accept="text/csv"), of(Accept="text/plain"), of(Accept="text/csv", Tenant="a")]
    assert len({one.key for one in keys}) == 4
    assert of(tenant="a", accept="text/csv").key == keys[-1].key
    assert "text" not in keys[1].key


def test_what_one_client_may_read_is_not_given_to_another(server: FaultServer, tmp_path: Path) -> None:
    """Two tokens, one version for both: each reads its own rows, and its own alone again when nothing has changed."""
    contents = {name: Content(b"owner\n" + name.encode() + b"\n") for name in ("ann", "bob")}
    server.routes["/rows.csv"] = lambda asked, connection: contents[asked.headers["authorization"]](asked, connection)
    for name in ("ann", "bob", "ann", "bob"):
        config = HTTPConfig(
            url=server.url + "/rows.csv",
            allow_http=True,
            allow_private=["127.0.0.1"],
            headers={"Authorization": name},
        )
        source = HTTPSource(config, cache=DiskTier(tmp_path))
        assert [row for batch in source.batches() for row in batch.rows.column("owner").to_pylist()] == [name]
    assert [asked.headers.get("if-none-match") for asked in server.asked] == [None, None, '"1"', '"1"']


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"etag": '"\u00e9"'},
        {"etag": 7},
        {"etag": "a\r\nHost: evil"},
        {"content": "0" * 64},
        {"content": None},
        {"digests": None},
    ],
)
def test_a_note_that_is_wrong_is_no_note(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another version, a field that no header can carry, a content that is not there: it is downloaded again."""
    made = filled(tmp_path)
    (note,) = (tmp_path / "downloads").glob("*.json")
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    assert made.newest("0" * 64) is None
    note.write_text("{")
    assert made.newest(None) is None


def test_one_downloads_while_others_wait(server: FaultServer, tmp_path: Path) -> None:
    """Three that want the same URL at once cost one download; the others ask whether it still holds."""
    is_asked, go_on = threading.Event(), threading.Event()
    content = Content(CSV)

    def slow(asked: Asked, connection: socket.socket) -> None:
        is_asked.set()
        go_on.wait(10.0)
        content(asked, connection)

    server.routes["/rows.csv"] = slow
    config = HTTPConfig(url=server.url + "/rows.csv", allow_http=True, allow_private=["127.0.0.1"])
    counts: list[int] = []

    def read() -> None:
        source = HTTPSource(config, cache=DiskTier(tmp_path))
        counts.append(sum(batch.rows.num_rows for batch in source.batches()))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert is_asked.wait(10.0)
    go_on.set()
    for thread in threads:
        thread.join()
    assert counts == [10_000] * 3
    assert [asked.headers.get("if-none-match") for asked in server.asked] == [None, '"1"', '"1"']
