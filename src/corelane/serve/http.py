"""The HTTP surface of the served models: which path answers what. It only translates; `ModelServer` does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import orjson

from corelane import __version__
from corelane.core.errors import DeadlineError, RequestError
from corelane.core.types import JsonObject
from corelane.observe.metrics import CONTENT_TYPE, MetricsCollector
from corelane.serve.control import ModelControl
from corelane.serve.extensions import CONFIGURATION, REPOSITORY, STATISTICS, configuration, statistics
from corelane.serve.oip import OipCodec
from corelane.serve.openapi import document
from corelane.serve.records import RecordCodec
from corelane.serve.repository import RepositoryRoutes
from corelane.serve.request import Envelope, Request, Response
from corelane.serve.served import ServedModels
from corelane.serve.server import ModelServer
from corelane.web.exchange import Exchange, Headers, Observe
from corelane.web.later import Later
from corelane.web.route import Handler, Route, Routes, Scope
from corelane.web.status import HTTP_STATUS
from corelane.web.tensors import HEADER, TIMEOUT_HEADER

SERVER_NAME = "corelane"
EXTENSIONS = ("binary_tensor_data", CONFIGURATION, STATISTICS, REPOSITORY)
"""Of the Open Inference Protocol; what it requires is no extension."""

RECEIPT_HEADER = "corelane-receipt"
"""Whoever sends it, with any value, is told where the answer's time went, in the header Server-Timing."""

MAX_TIMEOUT_MS = 3_600_000
MAX_TIMEOUT_DIGITS = 10
UNROUTED = "other"  # the model of requests that name none
PAGE = Path(__file__).with_name("docs.html")
PAGE_HEADERS: Headers = [
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
]
"""The page to try models on asks this server only, and brings its script and style with it."""


class Codec(Protocol):
    """Translates between a protocol's bytes and the neutral request and response."""

    def parse(self, body: bytes, envelope: Envelope) -> Request:
        """The request in `body`. Raises `RequestError`."""
        ...

    def render(self, response: Response) -> tuple[bytes, Headers]:
        """The reply's body and headers."""
        ...


class Lifecycle(Protocol):
    """What the server as a whole knows about itself."""

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        ...

    def exposition(self) -> bytes:
        """All metrics of this server, of every worker. May block; called in a thread."""
        ...


class ModelRoutes:
    """Owns the routes of the models that are served; they come and go with those. `control` loads and unloads them.

    `request_timeout_s` becomes each request's deadline.
    """

    def __init__(
        self,
        models: ServedModels,
        lifecycle: Lifecycle,
        *,
        metrics: MetricsCollector,
        request_timeout_s: float,
        control: ModelControl,
    ) -> None:
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._request_timeout_s = request_timeout_s
        self._later = Later()
        self._of_models: dict[str, list[Route]] = {}
        repository = RepositoryRoutes(
            models, control, is_serving=lambda: lifecycle.is_ready, observe=self.observe(UNROUTED)
        )
        self.routes = Routes([*self._of_server(), repository.index()], self._explain, repository.change)

    def show(self, server: ModelServer) -> None:
        """See `Surface.show`."""
        former = self._of_models.get(server.model.name, [])
        routes = self._of_models[server.model.name] = self._of_model(server)
        self.routes.drop(former)
        self.routes.add(routes)

    def hide(self, name: str) -> None:
        """See `Surface.hide`."""
        self.routes.drop(self._of_models.pop(name))

    def _of_server(self) -> list[Route]:
        """The routes that are there whatever is served."""
        return [
            *self._fixed("/v2", lambda: (200, server_metadata())),
            *self._fixed("/v2/health/live", lambda: (200, {"live": True}), None),
            *self._fixed("/v2/health/ready", self._ready, None),
            Route("GET", "/metrics", self._send_metrics, self.observe(UNROUTED)),
            Route("GET", "/openapi.json", self._send_document, self.observe(UNROUTED)),
            Route("GET", "/docs", self._send_page, self.observe(UNROUTED), None),
            self._statistics("/v2/models/stats", lambda: list(self._models.servers.values())),
        ]

    def observe(self, model: str) -> Observe:
        """Counts and times the answers for `model`."""
        return self._metrics.request_meter(model, "http").answered

    def _of_model(self, server: ModelServer) -> list[Route]:
        name, version = server.model.name, server.model.version
        codec = OipCodec(server.model)
        metadata = codec.metadata()
        infer = self._predicting(server, codec)
        observe = self.observe(name)
        predict = self._predicting(server, RecordCodec(server))
        routes = [Route("POST", f"/v1/models/{name}:predict", predict, observe, "infer")]
        for base in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
            routes += self._fixed(base, lambda: (200, metadata))
            routes += self._fixed(f"{base}/ready", lambda: self._model_ready(server), None)
            routes += self._fixed(
                f"{base}/config", lambda: (200, configuration(server.model, server.config.batch_size))
            )
            routes += self._fixed(f"{base}/slowest", lambda: (200, slowest_of(server)))
            routes.append(self._statistics(f"{base}/stats", lambda: [server]))
            routes.append(Route("POST", f"{base}/infer", infer, observe, "infer"))
        return routes

    def _predicting(self, server: ModelServer, codec: Codec) -> Handler:
        parse, render, enqueue, most_s = codec.parse, codec.render, server.enqueue, self._request_timeout_s
        check_room, default_s = server.check_room, server.default_timeout_s

        def predict(exchange: Exchange, body: bytes) -> None:
            def deliver(result: Response | BaseException) -> None:
                try:
                    if exchange.is_late:
                        exchange.fail(DeadlineError("the answer was not ready before the deadline; try again later"))
                    elif isinstance(result, Response):
                        begin_s = time.monotonic()
                        reply, headers = render(result)
                        if result.receipt is not None:
                            timing = result.receipt.server_timing(time.monotonic() - begin_s)
                            headers = [*headers, ("server-timing", timing)]
                        exchange.reply(reply, headers=headers)
                    else:
                        exchange.fail(result)
                except Exception as error:  # noqa: BLE001 - it belongs to this exchange, not to the rest of the batch
                    exchange.fail(error)

            check_room()  # before the body costs anything
            request = parse(body, _envelope(exchange, default_s, most_s))
            if request.deadline_s < exchange.arrived_s + most_s:
                exchange.expire(request.deadline_s)
                if exchange.is_late:
                    raise DeadlineError("the deadline passed while the request was read; send it again later")
            enqueue(request, deliver)
            if not exchange.replied:
                exchange.when_gone = request.give_up

        return predict

    def _fixed(
        self, path: str, answer: Callable[[], tuple[int, JsonObject]], scope: Scope | None = "read"
    ) -> list[Route]:
        def handler(exchange: Exchange, _body: bytes) -> None:
            status, message = answer()
            exchange.reply(orjson.dumps(message), status)

        observe = self.observe(UNROUTED)
        return [Route("GET", one, handler, observe, scope) for one in (path, f"{path}/")]

    def _ready(self) -> tuple[int, JsonObject]:
        ready = self._lifecycle.is_ready and self._models.are_ready
        return (200 if ready else HTTP_STATUS["not_ready"]), {"ready": ready}

    def _model_ready(self, server: ModelServer) -> tuple[int, JsonObject]:
        state = self._models.state_of(server, is_serving=self._lifecycle.is_ready)
        return (200 if state["ready"] else HTTP_STATUS["not_ready"]), state

    def _send_metrics(self, exchange: Exchange, _body: bytes) -> None:
        self._later.make(exchange, self._lifecycle.exposition, [("content-type", CONTENT_TYPE)])

    def _send_document(self, exchange: Exchange, _body: bytes) -> None:
        models = [server.model for server in self._models.servers.values()]
        self._later.make(exchange, lambda: orjson.dumps(document(models)))

    def _send_page(self, exchange: Exchange, _body: bytes) -> None:
        self._later.make(exchange, PAGE.read_bytes, PAGE_HEADERS)

    def _statistics(self, path: str, servers: Callable[[], Sequence[ModelServer]]) -> Route:
        def handler(exchange: Exchange, _body: bytes) -> None:
            models = [server.model for server in servers()]
            self._later.make(exchange, lambda: orjson.dumps(statistics(models, self._lifecycle.exposition())))

        return Route("GET", path, handler, self.observe(UNROUTED))

    def _explain(self, path: str) -> str:
        """Why there is nothing at `path`; unknown and malformed names get the same words."""
        parts = path.split("/")
        if path.startswith(("/v1/models/", "/v2/models/")):
            name = parts[3].removesuffix(":predict")
            known = ", ".join(sorted(self._models.servers))
            server = self._models.servers.get(name)
            if server is None:
                return f"the model must be one of {known}, got {name[:80]!r}"
            if len(parts) > 5 and parts[4] == "versions" and parts[5] != str(server.model.version):
                return f"the version of {name} must be {server.model.version}, got {parts[5][:20]!r}"
        known = "/v2/models/<name>/infer, /v1/models/<name>:predict, /v2/health/ready and /docs are"
        return f"the path must be one this server answers, got {path[:80]!r}; {known}"


def slowest_of(server: ModelServer) -> JsonObject:
    """The slowest requests of this process in the last minutes, with where their time went."""
    return {
        "model_name": server.model.name,
        "model_version": str(server.model.version),
        "slowest": server.slowest.to_json(time.monotonic()),
    }


def _envelope(exchange: Exchange, default_s: float, most_s: float) -> Envelope:
    """What the headers and the configuration say of a request: it must be answered within `default_s`, or at most
    `most_s` where it says so.
    """
    headers = exchange.headers
    milliseconds = headers.get(TIMEOUT_HEADER)
    if milliseconds is not None:
        is_number = milliseconds.isascii() and milliseconds.isdecimal() and len(milliseconds) <= MAX_TIMEOUT_DIGITS
        if not is_number or not 0 < int(milliseconds) <= MAX_TIMEOUT_MS:
            raise RequestError(
                f"the header {TIMEOUT_HEADER} must be a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS}, "
                f"got {milliseconds[:20]!r}"
            )
        default_s = most_s = min(most_s, int(milliseconds) / 1000)
    arrived_s = exchange.arrived_s
    return Envelope(
        arrived_s,
        arrived_s + min(default_s, most_s),
        headers.get(HEADER),
        RECEIPT_HEADER in headers,
        arrived_s + most_s,
    )


def server_metadata() -> JsonObject:
    """Name, version and extensions, as the protocol has them."""
    return {"name": SERVER_NAME, "version": __version__, "extensions": list(EXTENSIONS)}
