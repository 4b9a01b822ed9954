"""`Client` and `AsyncClient`: a running server, asked from Python. The same calls, the second with `await`.

Every call has a deadline, which the server is told, and by which it is over whatever the server does. What may pass (a
lost connection, a server that starts or has too much to do) is asked again within it, as the budget of retries allows.
Inference changes nothing on the server: asking twice is safe.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpcore

from corelane.client.deadline_stream import MOST_S, DeadlineBackend, until
from corelane.client.retry import Attempts, RetryBudget
from corelane.client.wire import (
    Call,
    bearer,
    error_of,
    infer_answer,
    infer_call,
    metadata_answer,
    model_path,
    predict_answer,
    predict_call,
)
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError, ConnectionLostError, CorelaneError, DeadlineError
from corelane.core.types import Array, JsonObject

MAX_CONNECTIONS = 64
_LOST = (httpcore.NetworkError, httpcore.ProtocolError)


class _Calls:
    """What both clients know: where the server is, how long a call may take, and the budget."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        budget: RetryBudget | None,
        headers: Mapping[str, str] | None,
        token: str | None,
        clock: Clock | None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"the server's URL must be http://host:port or https://host:port, got {url!r}")
        if not timeout_s > 0:
            raise ConfigError(f"timeout_s must be more than 0, got {timeout_s}")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._budget = budget or RetryBudget(clock=self._clock)
        self._headers = (*(headers or {}).items(), *(() if token is None else (bearer(token),)))
        self._random = random.Random()  # noqa: S311 - it spreads waits, and guards nothing

    def _attempts(self, timeout_s: float | None) -> Attempts:
        if timeout_s is not None and math.isnan(timeout_s):
            raise ConfigError("timeout_s must be a number of seconds, got nan")
        deadline_s = self._clock.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        return Attempts(self._budget, deadline_s, self._clock, self._random)

    def _request(self, call: Call, left_s: float) -> dict[str, Any]:
        """What httpcore is to send. Raises `DeadlineError` when there is no time left."""
        if left_s <= 0:
            raise DeadlineError("the deadline passed before the request could be sent; allow more time")
        call = call.within(left_s)
        times = dict.fromkeys(("connect", "read", "write", "pool"), _bounded(left_s))
        return {
            "method": "GET" if call.body is None else "POST",
            "url": self._url + call.path,
            "headers": [*self._headers, *call.headers],
            "content": call.body,
            "extensions": {"timeout": times},
        }


def _answered(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a success. Raises what the server said."""
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    if status != 200:
        raise error_of(status, named, body)
    return body, named


def _bounded(seconds: float) -> float | None:
    """None, which is no bound, for more than a timer can count."""
    return seconds if seconds < MOST_S else None


def _lost(error: Exception) -> CorelaneError:
    if isinstance(error, httpcore.TimeoutException | TimeoutError):
        return DeadlineError("the server must answer before the deadline, got silence; allow more time")
    return ConnectionLostError(f"the server must be reachable, got {type(error).__name__}: {error}")


class Client(_Calls):
    """Owns connections to one server. May be shared by threads.

    Each call takes `timeout_s` seconds at most, retries included. Raises `ConfigError` for a URL that is none; calls
    raise `RequestError`, `UnauthorizedError`, `ForbiddenError`, `NotFoundError`, `OverloadedError`, `NotReadyError`,
    `DeadlineError`, `ConnectionLostError` and `ServerFailedError`. `token` is what the server asks for, if it does.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        budget: RetryBudget | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(url, timeout_s, budget, headers, token, clock)
        self._pool = httpcore.ConnectionPool(max_connections=MAX_CONNECTIONS, network_backend=DeadlineBackend())

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Outputs [n, ...] by name for `inputs`, arrays [n, ...] or lists of texts [n] by name."""
        return infer_answer(*self._ask(infer_call(model, inputs, outputs=outputs, version=version), timeout_s))

    def predict(
        self, model: str, rows: Sequence[Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """One prediction a row; a row is a mapping of column to value."""
        return predict_answer(self._ask(predict_call(model, rows), timeout_s)[0])

    def metadata(self, model: str, *, version: int | None = None, timeout_s: float | None = None) -> JsonObject:
        """Names, types and shapes of what a model takes and gives."""
        return metadata_answer(self._ask(Call(model_path(model, version)), timeout_s)[0])

    def is_ready(self, model: str | None = None, *, timeout_s: float = 1.0) -> bool:
        """Whether the server, or a model of it, accepts requests; asked once."""
        path = "/v2/health/ready" if model is None else f"{model_path(model, None)}/ready"
        try:
            self._send(Call(path), timeout_s)
        except CorelaneError:
            return False
        return True

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call, timeout_s: float | None) -> tuple[bytes, dict[str, str]]:
        attempts = self._attempts(timeout_s)
        while True:
            try:
                return self._send(call, attempts.left_s)
            except CorelaneError as error:
                self._clock.sleep(attempts.wait_s(error))

    def _send(self, call: Call, left_s: float) -> tuple[bytes, dict[str, str]]:
        try:
            with until(time.monotonic() + left_s):
                reply = self._pool.request(**self._request(call, left_s))
        except (*_LOST, httpcore.TimeoutException) as error:
            raise _lost(error) from error
        return _answered(reply.status, reply.headers, reply.content)


class AsyncClient(_Calls):
    """The same for asyncio. Belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        budget: RetryBudget | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(url, timeout_s, budget, headers, token, clock)
        self._pool = httpcore.AsyncConnectionPool(max_connections=MAX_CONNECTIONS)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """As `Client.infer`."""
        return infer_answer(*await self._ask(infer_call(model, inputs, outputs=outputs, version=version), timeout_s))

    async def predict(
        self, model: str, rows: Sequence[Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> list[dict[str, Any]]:
        """As `Client.predict`."""
        return predict_answer((await self._ask(predict_call(model, rows), timeout_s))[0])

    async def metadata(self, model: str, *, version: int | None = None, timeout_s: float | None = None) -> JsonObject:
        """As `Client.metadata`."""
        return metadata_answer((await self._ask(Call(model_path(model, version)), timeout_s))[0])

    async def is_ready(self, model: str | None = None, *, timeout_s: float = 1.0) -> bool:
        """As `Client.is_ready`."""
        path = "/v2/health/ready" if model is None else f"{model_path(model, None)}/ready"
        try:
            await self._send(Call(path), timeout_s)
        except CorelaneError:
            return False
        return True

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, call: Call, timeout_s: float | None) -> tuple[bytes, dict[str, str]]:
        attempts = self._attempts(timeout_s)
        while True:
            try:
                return await self._send(call, attempts.left_s)
            except CorelaneError as error:
                await asyncio.sleep(attempts.wait_s(error))

    async def _send(self, call: Call, left_s: float) -> tuple[bytes, dict[str, str]]:
        request = self._request(call, left_s)
        try:
            async with asyncio.timeout(_bounded(left_s)):
                reply = await self._pool.request(**request)
        except (*_LOST, httpcore.TimeoutException, TimeoutError) as error:
            raise _lost(error) from error
        return _answered(reply.status, reply.headers, reply.content)
