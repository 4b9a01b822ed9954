"""Asking another process over its Unix socket: what is not sent, what is lost, and what a path may hold."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from corelane.core.errors import CorelaneError, NotReadyError, WorkerLostError
from corelane.web.ask import MAX_ANSWER, Answer, ask


@asynccontextmanager
async def answering(reply: Callable[[bytes], bytes | None]) -> AsyncIterator[Path]:
    """A socket whose listener answers each head with `reply` of it; None: with nothing, and it stays."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = reply(await reader.readuntil(b"\r\n\r\n"))
        if told is None:
            await reader.read()
        else:
            writer.write(told)
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "worker-0.http"
        async with await asyncio.start_unix_server(talk, path):
            yield path


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def asked(reply: Callable[[bytes], bytes | None], path: str = "/x") -> Answer:
    async def main() -> Answer:
        async with answering(reply) as socket:
            return await ask(socket, "POST", path, b"{}", timeout_s=0.5)

    return asyncio.run(main())


def test_the_answer_is_what_was_sent() -> None:
    """Its status and its whole body, also a large one, and one in chunks."""
    assert asked(lambda _: ok(b"x" * 300_000)) == Answer(200, b"x" * 300_000)
    chunked = b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    assert asked(lambda _: chunked) == Answer(503, b"{}")


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/%2e", "/caf\u00e9", "/a?b#c", "/\x00"])
def test_no_path_is_more_than_a_path(path: str) -> None:
    """Whatever a decoded path holds is sent as a URL has it, on the first line."""
    heads: list[bytes] = []

    def keep(head: bytes) -> bytes:
        heads.append(head)
        return ok(b"")

    asked(keep, path)
    [head] = heads
    method, target, protocol = head.split(b"\r\n")[0].split(b" ")
    assert (method, protocol, head.count(b"\r\n")) == (b"POST", b"HTTP/1.1", 5)
    assert not set(target) & set(b" \r\n\x00?#")


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        b"junk\r\n\r\n",
        ok(bytes(MAX_ANSWER + (1 << 20))),
    ],
    ids=["silence", "nothing", "a part", "no HTTP", "too much"],
)
def test_what_was_sent_and_not_answered_is_lost(reply: bytes | None) -> None:
    """Within its time, and it is said that nobody knows what became of it."""
    with pytest.raises(WorkerLostError, match="worker-0 must answer within"):
        asked(lambda _: reply)


def test_where_nobody_listens_nothing_is_sent(tmp_path: Path) -> None:
    """That is another error: it may be tried again."""
    for path in (tmp_path / "worker-0.http", tmp_path / "no" / "worker-0.http"):
        with pytest.raises(CorelaneError) as told:
            asyncio.run(ask(path, "GET", "/x", timeout_s=0.5))
        assert type(told.value) is NotReadyError
