"""Replies that are not ready at once: made in a thread, or by a coroutine, while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from corelane.web.exchange import JSON, Exchange, Headers

StatusAndBody: TypeAlias = tuple[int, bytes]


class Later:
    """Owns the work behind replies that are still to come. For the event loop's thread only."""

    def __init__(self) -> None:
        self._background: set[asyncio.Future[StatusAndBody]] = set()

    def make(self, exchange: Exchange, make: Callable[[], bytes], headers: Headers = JSON) -> None:
        """Reply with what `make` returns, which may block: it is called in a thread."""
        self.wait(exchange, _made(make), headers)

    def wait(self, exchange: Exchange, work: Awaitable[StatusAndBody], headers: Headers = JSON) -> None:
        """Reply with what `work` brings, or with its failure."""
        task = asyncio.ensure_future(work)
        self._background.add(task)

        def send(finished: asyncio.Future[StatusAndBody]) -> None:
            self._background.discard(finished)
            if finished.cancelled():
                return
            error = finished.exception()
            if error is None:
                status, body = finished.result()
                exchange.reply(body, status, headers)
            else:
                exchange.fail(error)

        task.add_done_callback(send)


async def _made(make: Callable[[], bytes]) -> StatusAndBody:
    return 200, await asyncio.get_running_loop().run_in_executor(None, make)
