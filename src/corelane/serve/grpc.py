"""The gRPC surface of the served models: the same `ModelServer`s as over HTTP, another container.

The protocol's six calls, gRPC's health check, and Triton's calls for configuration, statistics and the repository of
models. Reflection is off unless asked for. This module, `grpc_health.py` and `reflection.py` alone import the gRPC
library.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import grpc
import grpc.aio

from corelane import __version__
from corelane.core.errors import DeadlineError, NotFoundError
from corelane.observe.metrics import MetricsCollector
from corelane.serve.control import ModelControl
from corelane.serve.extensions import configuration, repository_index, statistics
from corelane.serve.grpc_codec import GrpcCodec
from corelane.serve.grpc_health import Health
from corelane.serve.http import EXTENSIONS, SERVER_NAME, Lifecycle
from corelane.serve.messages import DATA_TYPES, HEALTH_MESSAGES, HEALTH_SERVICE, MESSAGES, SERVICE
from corelane.serve.oip import OipCodec
from corelane.serve.reflection import Reflection
from corelane.serve.request import Envelope
from corelane.serve.served import ServedModels
from corelane.serve.server import ModelServer
from corelane.web.exchange import Observe
from corelane.web.http import Guard
from corelane.web.route import Scope
from corelane.web.status import Failure, failure_of
from corelane.web.tls import Tls

PROTOCOL = "grpc"
SCOPES: Mapping[str, Scope | None] = {
    "ModelInfer": "infer",
    "ServerLive": None,
    "ServerReady": None,
    "ModelReady": None,
    "Check": None,
    "RepositoryModelLoad": "manage",
    "RepositoryModelUnload": "manage",
}
"""What a caller must be allowed to do for a call; of those not named, to read."""

STATUSES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""gRPC's status for what HTTP would answer; another is our failure."""

Context: TypeAlias = Any  # grpc.aio.ServicerContext; the library has no types
Answer = Callable[[Any, Context], Awaitable[Any]]


class GrpcServer:
    """Answers for `models` on an address that other workers may share. Belongs to one event loop.

    Of messages more than `max_body` bytes long, and of calls beyond `max_calls` under way, the callers are told
    RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        models: ServedModels,
        lifecycle: Lifecycle,
        *,
        metrics: MetricsCollector,
        report: Callable[[BaseException, Failure], None],
        max_body: int,
        max_calls: int,
        request_timeout_s: float,
        control: ModelControl,
        has_reflection: bool = False,
        guard: Guard | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._models = models
        self._servers = models.servers
        self._control = control
        self._guard = guard
        self._tls = tls
        self._codecs: dict[str, GrpcCodec] = {}
        self._meters: dict[str, Observe] = {}
        self._metrics = metrics
        self._other = metrics.request_meter("other", PROTOCOL).answered
        self._lifecycle = lifecycle
        self._report = report
        self._request_timeout_s = request_timeout_s
        self._health = Health(models, lifecycle)
        options = [("grpc.so_reuseport", 1), ("grpc.max_receive_message_length", max_body)]
        options.append(("grpc.max_send_message_length", -1))
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=max_calls)
        reflection = Reflection().handlers() if has_reflection else []
        self._server.add_generic_rpc_handlers((self._inference(), self._health_check(), *reflection))

    def show(self, server: ModelServer) -> None:
        """See `Surface.show`."""
        name = server.model.name
        self._codecs[name] = GrpcCodec(OipCodec(server.model))
        self._meters[name] = self._metrics.request_meter(name, PROTOCOL).answered

    def hide(self, name: str) -> None:
        """See `Surface.hide`."""
        del self._codecs[name], self._meters[name]

    async def start(self, ip: str, port: int) -> None:
        """Accept calls. Raises `RuntimeError` when the address cannot be listened on."""
        address = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        if self._tls is None:
            self._server.add_insecure_port(address)
        else:
            pair = (self._tls.key.read_bytes(), self._tls.certificate.read_bytes())
            self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Accept no more; let calls under way end within `grace_s` seconds."""
        self._health.end()
        await self._server.stop(grace_s)

    # --- the calls ----------------------------------------------------------------------------------------------------

    def _inference(self) -> grpc.GenericRpcHandler:
        calls: dict[str, Answer] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "ModelConfig": self._config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._answering(name, call),
                    request_deserializer=MESSAGES[f"{name}Request"].FromString,
                    response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
                )
                for name, call in calls.items()
            },
        )

    def _health_check(self) -> grpc.GenericRpcHandler:
        read, write = (HEALTH_MESSAGES[f"HealthCheck{what}"] for what in ("Request", "Response"))
        ends = {"request_deserializer": read.FromString, "response_serializer": write.SerializeToString}
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(self._answering("Check", self._health.check), **ends),
            "Watch": grpc.unary_stream_rpc_method_handler(self._health.watch, **ends),
        }
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, handlers)

    def _answering(self, name: str, call: Answer) -> Answer:
        """`call` with its failures as statuses, counted and timed."""

        async def answer(message: Any, context: Context) -> Any:
            start_s = time.monotonic()
            observe = self._meters.get(message.model_name, self._other) if name == "ModelInfer" else self._other
            try:
                self._check_scope(name, context)
                reply = await call(message, context)
            except asyncio.CancelledError:
                observe(499, time.monotonic() - start_s)
                raise
            except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes a status and a message
                failure = failure_of(error)
                if failure.error_id is not None:
                    self._report(error, failure)
                observe(failure.status, time.monotonic() - start_s)
                await context.abort(STATUSES.get(failure.status, grpc.StatusCode.INTERNAL), failure.message)
            observe(200, time.monotonic() - start_s)
            return reply

        return answer

    def _check_scope(self, name: str, context: Context) -> None:
        """Raise unless the caller may do that."""
        scope = SCOPES.get(name, "read")
        if self._guard is not None and scope is not None:
            found = dict(context.invocation_metadata() or ()).get("authorization")
            self._guard.check(found if isinstance(found, str) else None, scope)

    async def _infer(self, message: Any, context: Context) -> Any:
        server = self._server_of(message.model_name, message.model_version)
        now_s = time.monotonic()
        left_s = context.time_remaining()
        most_s = self._request_timeout_s if left_s is None else min(self._request_timeout_s, left_s)
        default_s = min(server.default_timeout_s, most_s) if left_s is None else most_s
        server.check_room()
        codec = self._codecs[message.model_name]
        request = codec.parse(message, Envelope(now_s, now_s + default_s, latest_s=now_s + most_s))
        try:
            async with asyncio.timeout(request.deadline_s - now_s):
                return codec.render(await server.infer(request))
        except TimeoutError as error:
            raise DeadlineError("the answer was not ready before the deadline; try again later") from error
        finally:
            request.give_up()

    async def _live(self, _message: Any, _context: Context) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, _message: Any, _context: Context) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._is_ready())

    async def _model_ready(self, message: Any, _context: Context) -> Any:
        server = self._server_of(message.name, message.version)
        return MESSAGES["ModelReadyResponse"](ready=self._lifecycle.is_ready and server.is_ready)

    async def _metadata(self, _message: Any, _context: Context) -> Any:
        return MESSAGES["ServerMetadataResponse"](name=SERVER_NAME, version=__version__, extensions=EXTENSIONS)

    async def _model_metadata(self, message: Any, _context: Context) -> Any:
        return MESSAGES["ModelMetadataResponse"](
            **OipCodec(self._server_of(message.name, message.version).model).metadata()
        )

    async def _config(self, message: Any, _context: Context) -> Any:
        server = self._server_of(message.name, message.version)
        config = configuration(server.model, server.config.batch_size)
        for tensor in (*config["input"], *config["output"]):
            tensor["data_type"] = DATA_TYPES[tensor["data_type"].removeprefix("TYPE_")]
        return MESSAGES["ModelConfigResponse"](config=config)

    async def _statistics(self, message: Any, _context: Context) -> Any:
        names = [message.name] if message.name else list(self._servers)
        models = [self._server_of(name, message.version).model for name in names]
        exposition = await asyncio.get_running_loop().run_in_executor(None, self._lifecycle.exposition)
        stats = statistics(models, exposition)["model_stats"]
        for one in stats:
            del one["batch_stats"]
        return MESSAGES["ModelStatisticsResponse"](model_stats=stats)

    async def _index(self, message: Any, _context: Context) -> Any:
        models = self._models.index(is_serving=self._lifecycle.is_ready)
        return MESSAGES["RepositoryIndexResponse"](models=repository_index(models, is_ready_only=message.ready))

    async def _load(self, message: Any, _context: Context) -> Any:
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
            for name, value in message.parameters.items()
        }
        await self._control.load(message.model_name, parameters)
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def _unload(self, message: Any, _context: Context) -> Any:
        await self._control.unload(message.model_name)
        return MESSAGES["RepositoryModelUnloadResponse"]()

    def _is_ready(self) -> bool:
        return self._lifecycle.is_ready and self._models.are_ready

    def _server_of(self, name: str, version: str) -> ModelServer:
        server = self._servers.get(name)
        if server is None:
            raise NotFoundError(f"the model must be one of {', '.join(sorted(self._servers))}, got {name[:80]!r}")
        if version and version != str(server.model.version):
            raise NotFoundError(f"the version of {name} must be {server.model.version}, got {version[:20]!r}")
        return server
