"""The load generator: every request is sent at its time, and a slow server makes none of them come later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from corelane.client.load import LOST, UNANSWERED, Outcome, joined, run_load
from corelane.client.load_report import load_report
from corelane.client.wire import Call
from corelane.core.errors import ConfigError

CALLS = [Call("/x", (("content-type", "application/json"),), b"{}")]
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _read(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))


def reply(status: int = 200, *, wait_s: float = 0.0, is_kept: bool = True) -> Answer:
    """A server that answers each request alike."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await _read(reader)
                await asyncio.sleep(wait_s)
                end = b"" if is_kept else b"Connection: close\r\n"
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 2\r\n%s\r\n{}" % (status, end))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return answer


async def _dropped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _read(reader)
    writer.close()


def outcome(answer: Answer, due_s: np.ndarray, patience_s: float = 5.0, **more: int) -> Outcome:
    async def main() -> Outcome:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        seen = await run_load(f"http://127.0.0.1:{port}", CALLS, due_s, patience_s=patience_s, **more)
        server.close()
        return seen

    return asyncio.run(main())


@pytest.mark.parametrize("is_kept", [True, False])
def test_every_request_is_answered_and_counted(is_kept: bool) -> None:
    """Over connections that are kept, or a new one each time."""
    seen = outcome(reply(is_kept=is_kept), np.arange(100) / 500)
    assert seen.status.tolist() == [200] * 100
    assert (seen.latency_s > 0).all()


def test_a_slow_server_makes_no_request_come_later() -> None:
    """Ten come at once, each takes 0.2 s, and none waits for another: a closed loop would take 2 s."""
    start_s = time.monotonic()
    seen = outcome(reply(wait_s=0.2), np.full(10, 0.01))
    assert time.monotonic() - start_s < 1.5
    assert (seen.latency_s >= 0.2).all()
    assert (seen.latency_s < 1.0).all()


def test_what_is_refused_lost_or_unanswered_is_told_apart() -> None:
    """Each by its status; a refusal's latency is not an answer's."""
    refused = load_report(outcome(reply(429), np.arange(20) / 500))
    assert (refused["statuses"], refused["latency_ms"]) == ({"429": 20}, None)
    assert refused["refusal_ms"]["p99"] > 0
    assert outcome(_dropped, np.arange(5) / 500).status.tolist() == [LOST] * 5
    assert outcome(reply(wait_s=60.0), np.arange(5) / 500, patience_s=0.2).status.tolist() == [UNANSWERED] * 5
    lost = asyncio.run(run_load("http://127.0.0.1:1", CALLS, np.arange(5) / 500))
    assert lost.status.tolist() == [LOST] * 5


@pytest.mark.parametrize("is_kept", [True, False])
def test_who_finds_no_connection_free_waits_and_counts_it(is_kept: bool) -> None:
    """Two connections for twenty requests that come at once: all are sent, the last after nine others."""
    seen = outcome(reply(wait_s=0.05, is_kept=is_kept), np.zeros(20), max_connections=2)
    assert seen.status.tolist() == [200] * 20
    assert np.sort(seen.latency_s)[-1] >= 0.5
    assert load_report(seen)["is_generator_late"]


def test_answers_are_counted_until_the_last_of_them() -> None:
    """A server that answers a hundred in a second, asked for them at once, answers a hundred a second."""
    quick = Outcome(np.arange(100) / 1000, 1.0 - np.arange(100) / 1000, np.full(100, 200), np.zeros(100))
    assert load_report(quick)["answered_per_s"] == pytest.approx(100.0)


def test_what_was_never_sent_is_told_as_that() -> None:
    """A server that answers nobody holds the two connections: the other requests were not sent."""
    seen = outcome(reply(wait_s=60.0), np.arange(10) / 500, patience_s=0.3, max_connections=2)
    report = load_report(seen)
    assert report["statuses"] == {"unanswered": 2, "unsent": 8}
    assert (report["latency_ms"], report["answered_per_s"]) == (None, 0.0)


def test_percentiles_are_of_answers_that_were_seen() -> None:
    """And say when it was the generator that was late."""
    status = np.array([200] * 99 + [429])
    latency = np.arange(100) / 1000
    quick = Outcome(np.arange(100) / 10, latency, status, np.zeros(100))
    report = load_report(quick)
    assert report["latency_ms"] == pytest.approx({"p50": 49.0, "p90": 89.0, "p99": 98.0, "p99.9": 98.0, "max": 98.0})
    assert report["refusal_ms"]["max"] == pytest.approx(99.0)
    assert (report["requests"], report["offered_per_s"]) == (100, pytest.approx(10.0))
    assert not report["is_generator_late"]
    late = Outcome(quick.due_s, latency, status, np.full(100, 0.02))
    assert load_report(joined([late, late]))["is_generator_late"]


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://x"])
def test_a_url_must_be_one(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match="URL must be"):
        asyncio.run(run_load(url, CALLS, np.zeros(1)))
