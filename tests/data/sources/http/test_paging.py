"""The walk through the pages of an API: each page whole, bounded, and retried alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.sources.http import HTTPSource, paging
from tests.data.sources.http.clocks import HandClock
from tests.faults.http_server import FaultServer, raw, reply

LAST = {"rows": [{"a": "1"}, {"a": "2"}], "next": None}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server on loopback whose only page is the last."""
    with FaultServer() as made:
        made.routes["/api"] = reply(json.dumps(LAST).encode())
        yield made


def rows_of(server: FaultServer, **config: Any) -> list[Any]:
    settings = HTTPConfig(
        url=server.url + "/api",
        paging={"records": "rows", "next_link": "next"},  # type: ignore[arg-type]
        allow_http=True,
        allow_private=["127.0.0.1"],
        **config,
    )
    source = HTTPSource(settings, clock=HandClock())
    return [row for batch in source.batches() for row in batch.rows.column("a").to_pylist()]


def test_a_page_without_an_end_that_is_cut_is_asked_for_again(server: FaultServer) -> None:
    """JSON shows where it ends, so such a page is taken if it is whole, and is never a shorter list."""
    text = json.dumps(LAST).encode()
    server.script = [raw(b"HTTP/1.0 200 x\r\n\r\n" + text[:cut]) for cut in (0, 5, len(text) - 1)]
    assert rows_of(server) == ["1", "2"]
    assert len(server.asked) == 4
    server.script = [raw(b"HTTP/1.0 200 x\r\n\r\n" + text)]
    assert rows_of(server) == ["1", "2"]


def test_a_whole_page_that_is_no_json_is_told(server: FaultServer) -> None:
    """It would be none the next time."""
    server.script = [reply(b'{"rows": [')] * 9
    with pytest.raises(DataError, match="must be JSON, got"):
        rows_of(server)
    assert len(server.asked) == 1


def test_pages_are_bounded(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page in memory, and all of them on disk."""
    with pytest.raises(DataError, match=r"must have at most 10 bytes, got more; raise data\.source\.max_bytes"):
        rows_of(server, max_bytes=10)
    monkeypatch.setattr(paging, "MAX_PAGE_BYTES", 10)
    with pytest.raises(DataError, match=r"a page of .* must have at most 10 bytes"):
        rows_of(server)


def test_a_packed_page_is_refused(server: FaultServer) -> None:
    """A page is parsed in memory: it is not unfolded there."""
    server.script = [reply(b"", Content_Encoding="gzip")]
    with pytest.raises(DataError, match="must be sent as it is"):
        rows_of(server)


def test_tries_are_counted_for_each_page(server: FaultServer) -> None:
    """Refusals and failures of one page do not use up those of the next."""
    server.routes["/api"] = reply(json.dumps({"rows": [{"a": "0"}], "next": "/two"}).encode())
    server.routes["/two"] = reply(json.dumps(LAST).encode())
    good = server.routes["/api"]
    server.script = [reply(status=503), reply(status=503), good, reply(status=503), reply(status=503)]
    assert rows_of(server, max_retries=2) == ["0", "1", "2"]
    server.script = [reply(status=503)] * 3
    with pytest.raises(SourceReadError, match="given up after 3 tries"):
        rows_of(server, max_retries=2)


def test_records_that_are_no_objects_cost_themselves(server: FaultServer) -> None:
    """They keep their place and are told, as lines of a file are."""
    server.routes["/api"] = reply(json.dumps({"rows": [{"a": "1"}, 7, {"a": "2"}], "next": None}).encode())
    assert rows_of(server) == ["1", "2"]
