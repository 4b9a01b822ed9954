"""gRPC's health check, of the server and of each model. The source is grpc/health/v1/health.proto and its document,
health-checking.md: `Check` of an unknown service is NOT_FOUND, `Watch` tells SERVICE_UNKNOWN and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from corelane.core.errors import NotFoundError
from corelane.serve.http import Lifecycle
from corelane.serve.messages import HEALTH_MESSAGES, NOT_SERVING, SERVICE, SERVICE_UNKNOWN, SERVING
from corelane.serve.served import ServedModels

WATCH_S = 1.0  # between two looks
MAX_WATCHES = 256
"""Streams of `Watch` that are open in a worker; one more is refused."""


class Health:
    """Owns the streams of `Watch`. Belongs to one event loop."""

    def __init__(self, models: ServedModels, lifecycle: Lifecycle) -> None:
        self._models = models
        self._lifecycle = lifecycle
        self._num_watches = 0
        self._is_over = asyncio.Event()

    async def check(self, message: Any, _context: Any) -> Any:
        """The status of what is asked for. Raises `NotFoundError`."""
        status = self._status_of(message.service)
        if status == SERVICE_UNKNOWN:
            known = ", ".join(sorted(self._models.servers))
            raise NotFoundError(f"the service must be empty, {SERVICE} or one of {known}, got {message.service[:80]!r}")
        return _told(status)

    async def watch(self, message: Any, context: Any) -> AsyncIterator[Any]:
        """The status now and each time it has changed, until the caller leaves or the server ends."""
        if self._num_watches >= MAX_WATCHES:
            told = f"at most {MAX_WATCHES} streams of Watch must be open; close others, or call Check"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, told)
        self._num_watches += 1
        try:
            last = None
            while not self._is_over.is_set():
                status = self._status_of(message.service)
                if status != last:
                    yield _told(status)
                    last = status
                await self._pause()
            if last != NOT_SERVING:
                yield _told(NOT_SERVING)
        finally:
            self._num_watches -= 1

    def end(self) -> None:
        """Let all streams come to their end."""
        self._is_over.set()

    async def _pause(self) -> None:
        waiting = asyncio.ensure_future(self._is_over.wait())
        try:
            await asyncio.wait((waiting,), timeout=WATCH_S)
        finally:
            waiting.cancel()

    def _status_of(self, service: str) -> int:
        """Of the whole server, or of a model by its name."""
        if service in ("", SERVICE):
            is_ready = self._models.are_ready
        elif (server := self._models.servers.get(service)) is not None:
            is_ready = server.is_ready
        else:
            return SERVICE_UNKNOWN
        return SERVING if self._lifecycle.is_ready and is_ready else NOT_SERVING


def _told(status: int) -> Any:
    return HEALTH_MESSAGES["HealthCheckResponse"](status=status)
