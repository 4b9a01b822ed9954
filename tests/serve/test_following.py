"""A server that follows a registry: swaps under load, refused versions, released memory, loading when it is asked."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import numpy as np
import pytest

from corelane.core.clock import ManualClock
from corelane.core.errors import BundleError, ConfigError
from corelane.machine.memory import MemoryManager
from corelane.model.registry import ModelManager, Reference
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.observe.metrics import MetricsCollector
from corelane.serve.config import ServeConfig
from corelane.serve.extensions import LOADING, READY, UNAVAILABLE
from corelane.serve.keeper import FIRST_WAIT_S, Keeper
from corelane.serve.messages import MESSAGES, SERVICE
from corelane.serve.origin import Followed, InRegistry, Release
from corelane.serve.request import Request
from corelane.serve.served import ServedModels
from tests.serve.live import LiveServer, ask, serving, tensor
from tests.serve.packages import golden_of, numeric_package, told_package
from tests.servers.s3 import Bucket

INFER = "/v2/models/m/infer"
BODY = {"inputs": [tensor("features", [[1, 2, 3, 4]] * 3, [3, 4])]}
POLL_S = 0.05
QUIET = SystemLogger(ObserveConfig(log_level="error"))


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


@pytest.fixture
def registry(tmp_path: Path) -> ModelManager:
    """Versions 1 and 2 of m, which answer 1 and 2; 1 is the champion."""
    manager = ModelManager(tmp_path / "registry")
    for told in (1, 2):
        told_package(tmp_path / "registry", told)
    manager.promote("m", 1)
    return manager


@contextmanager
def following(registry: ModelManager, *models: str, **settings: Any) -> Iterator[LiveServer]:
    """A server of `models` of the registry that looks twenty times a second."""
    names = f"[{', '.join(models or ('m',))}]"
    with serving(registry=registry.place.url, models=names, poll_s=POLL_S, **settings) as server:
        yield server


def until(condition: Callable[[], Any], *, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def served_version(server: LiveServer) -> str:
    return str(server.ask("GET", "/v2/models/m").json["versions"][0])


def told_of(message: dict[str, Any]) -> set[tuple[str, str]]:
    """Each row's answer beside the version that the reply names."""
    [labels] = [output["data"] for output in message["outputs"] if output["name"] == "label"]
    return {(message["model_version"], str(label)) for label in labels}


class Clients:
    """Threads that ask without a pause, over kept connections; `seen` and `odd` are what came."""

    def __init__(self, server: LiveServer, num_clients: int = 3) -> None:
        self.seen: set[tuple[str, str]] = set()
        self.odd: list[object] = []
        self.count = 0
        self._server = server
        self._ended = threading.Event()
        works = [self._ask_http] * num_clients + ([self._ask_grpc] if server.grpc_port is not None else [])
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, num_answers: int) -> None:
        """Until so many more were answered."""
        wanted = self.count + num_answers
        until(lambda: self.count >= wanted or self.odd)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (http.client.HTTPException, OSError, grpc.RpcError) as error:
            self.odd.append(error)

    def _ask_http(self) -> None:
        connection = self._server.connect()
        while not self._ended.is_set():
            reply = ask(connection, "POST", INFER, BODY)
            if reply.status == 200:
                self.seen |= told_of(reply.json)
                self.count += 1
            else:
                self.odd.append(reply)
        connection.close()

    def _ask_grpc(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            while not self._ended.is_set():
                self.seen.add(asked_over_grpc(channel))
                self.count += 1


def asked_over_grpc(channel: grpc.Channel) -> tuple[str, str]:
    features = MESSAGES["InferInputTensor"](name="features", datatype="FP64", shape=[1, 4])
    wanted = MESSAGES["InferRequestedOutputTensor"](name="label")
    raw = np.ones((1, 4)).tobytes()
    request = MESSAGES["ModelInferRequest"](
        model_name="m", inputs=[features], outputs=[wanted], raw_input_contents=[raw]
    )
    reply = called(channel, "ModelInfer", request)
    return reply.model_version, str(int.from_bytes(reply.raw_output_contents[0], "little"))


def called(channel: grpc.Channel, method: str, request: Any) -> Any:
    send = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=MESSAGES[f"{method}Request"].SerializeToString,
        response_deserializer=MESSAGES[f"{method}Response"].FromString,
    )
    return send(request, timeout=20)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def pool_bytes(server: LiveServer) -> dict[str, float]:
    text = server.ask("GET", "/metrics").body.decode()
    found = re.findall(r'corelane_system_pool_bytes{pool="(model|data)",state="used"[^}]*} (\S+)', text)
    return {name: float(value) for name, value in found}


@pytest.mark.parametrize("num_swaps", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_swaps_under_load_fail_no_request_and_mix_no_reply(registry: ModelManager, num_swaps: int) -> None:
    """Clients over HTTP and gRPC ask without a pause while the alias goes to and fro: each gets an answer, all of it of
    the version that it names; what a version held is given back when it goes, and the process does not grow.
    """
    with following(registry, grpc_port=0) as server:
        [worker] = server.workers()
        reserved = pool_bytes(server)
        assert reserved["model"] > 0
        sizes = []
        with Clients(server) as clients:
            for number in range(num_swaps):
                version = 2 - number % 2
                registry.promote("m", version)
                until(lambda wanted=str(version): served_version(server) == wanted)
                assert server.ask("GET", "/v2/health/ready").status == 200
                sizes.append(resident_bytes(worker))
        assert clients.odd == []
        assert clients.seen == {("1", "1"), ("2", "2")}
        assert clients.count > num_swaps
        until(lambda: pool_bytes(server)["model"] == reserved["model"])
        assert pool_bytes(server)["data"] - reserved["data"] < 1 << 20  # what requests are joined in
        assert max(sizes[-10:]) - max(sizes[num_swaps // 4 : num_swaps // 4 + 10]) < 16 << 20
        assert server.stop() == 0


def test_every_worker_follows(registry: ModelManager) -> None:
    """Each looks for itself; none fails a request, and when all have changed over nobody answers as before."""
    with following(registry, workers=2) as server, Clients(server) as clients:
        for version in (2, 1, 2):
            registry.promote("m", version)
            until(lambda wanted=str(version): {served_version(server) for _ in range(12)} == {wanted})
        registry.rollback("m")
        until(lambda: {served_version(server) for _ in range(12)} == {"1"})
        assert clients.odd == []
        assert clients.seen == {("1", "1"), ("2", "2")}


def test_a_request_whose_body_comes_slowly_is_answered_by_the_version_it_met(registry: ModelManager) -> None:
    """Half of its body came before the change and half after: the reply is whole, and of the version before."""
    content = json.dumps(BODY).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with following(registry) as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head + content[:10])
        until(lambda: served_version(server) == "1")
        registry.promote("m", 2)
        until(lambda: served_version(server) == "2")
        connection.sendall(content[10:])
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert reply.status == 200
        assert told_of(json.loads(reply.read())) == {("1", "1")}
        assert told_of(server.ask("POST", INFER, BODY).json) == {("2", "2")}


def test_a_version_that_is_asked_for_by_its_number_is_that_or_a_404(registry: ModelManager) -> None:
    """The path of the former version goes with it, and the message says which there is."""
    with following(registry) as server:
        assert told_of(server.ask("POST", "/v2/models/m/versions/1/infer", BODY).json) == {("1", "1")}
        registry.promote("m", 2)
        until(lambda: served_version(server) == "2")
        reply = server.ask("POST", "/v2/models/m/versions/1/infer", BODY)
        assert (reply.status, reply.json["error"]) == (404, "the version of m must be 2, got '1'")
        assert told_of(server.ask("POST", "/v2/models/m/versions/2/infer", BODY).json) == {("2", "2")}


def wrong_golden(home: Path, registry: ModelManager) -> Path:
    right = registry.fetch("m", 1, home)
    return told_package(Path(registry.place.url), 5, golden=golden_of(right, is_wrong=True))


def flipped(home: Path, registry: ModelManager) -> Path:
    path = told_package(Path(registry.place.url), 5)
    graph = path / "graphs" / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    return path


def other_inputs(home: Path, registry: ModelManager) -> Path:
    return numeric_package(Path(registry.place.url), num_columns=5, num_labels=10)


def misplaced(home: Path, registry: ModelManager) -> Path:
    path = told_package(home / "elsewhere", 5)
    return path.rename(Path(registry.place.url) / "m" / "3")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (wrong_golden, "must reproduce its golden rows"),
        (flipped, "its package cannot be loaded; the log says why"),
        (other_inputs, "must take and answer what version 1 does"),
        (misplaced, "its package cannot be loaded; the log says why"),
    ],
)
def test_a_version_that_is_no_good_is_refused(
    registry: ModelManager, tmp_path: Path, make: Callable[[Path, ModelManager], Path], says: str
) -> None:
    """The one before goes on and is ready, its readiness and the index say which was refused and why without naming a
    file; the next good one is taken.
    """
    bad = make(tmp_path, registry)
    with following(registry) as server, Clients(server) as clients:
        registry.promote("m", int(bad.name))

        def refused() -> dict[str, Any] | None:
            following = server.ask("GET", "/v2/models/m/ready").json.get("next")
            return following if following and following["state"] == UNAVAILABLE else None

        until(refused)
        told = refused()
        assert told is not None
        assert (told["version"], says in told["reason"]) == (bad.name, True)
        assert str(tmp_path) not in told["reason"]
        index = {one["version"]: one["state"] for one in server.ask("POST", "/v2/repository/index").json}
        assert index == {"1": READY, bad.name: UNAVAILABLE}
        assert server.ask("GET", "/v2/health/ready").status == 200
        registry.promote("m", 2)
        until(lambda: served_version(server) == "2")
        assert server.ask("GET", "/v2/models/m/ready").json == {"name": "m", "ready": True}
        assert clients.odd == []
        assert clients.seen == {("1", "1"), ("2", "2")}


def test_a_worker_that_is_started_anew_stands_in_with_the_version_before(
    registry: ModelManager, tmp_path: Path
) -> None:
    """The champion is no good by now: the worker serves what that named before instead of nothing."""
    with following(registry) as server:
        registry.promote("m", int(flipped(tmp_path, registry).name))
        until(lambda: "next" in server.ask("GET", "/v2/models/m/ready").json)
        [worker] = server.workers()
        server.kill_worker(worker)
        until(lambda: server.workers() and server.workers() != [worker])
        until(lambda: server.answers(INFER, BODY))
        assert served_version(server) == "1"
        assert server.ask("GET", "/v2/models/m/ready").json["next"]["state"] == UNAVAILABLE


def test_files_that_go_do_not_matter_to_what_is_served(registry: ModelManager) -> None:
    """A version's folder is removed, a registry is away and comes back: requests are answered meanwhile."""
    home = Path(registry.place.url)
    with following(registry) as server, Clients(server) as clients:
        registry.promote("m", 2)
        until(lambda: served_version(server) == "2")
        away = home.rename(home.with_name("away"))
        clients.wait_for(500)
        assert served_version(server) == "2"
        away.rename(home)
        registry.promote("m", 1)
        until(lambda: served_version(server) == "1")
        assert clients.odd == []


def test_a_registry_on_s3_is_followed(registry: ModelManager, bucket: Bucket, tmp_path: Path) -> None:
    """By two workers, which share the copies of its packages; nothing of those stays behind."""
    remote = ModelManager(f"{bucket.url}/models", options=bucket.options)
    for version in (1, 2):
        remote.publish(registry.fetch("m", version, tmp_path))
    remote.promote("m", 1)
    options = json.dumps(bucket.options)
    with following(remote, registry_options=options, workers=2) as server, Clients(server) as clients:
        for version in (2, 1):
            remote.promote("m", version)
            until(lambda wanted=str(version): {served_version(server) for _ in range(12)} == {wanted})
    assert clients.odd == []
    assert clients.seen == {("1", "1"), ("2", "2")}
    assert not list(Path(tempfile.gettempdir()).glob("corelane-models-*/m"))


def test_a_start_without_such_a_model_is_refused(registry: ModelManager, tmp_path: Path) -> None:
    """An alias that is not set, a model that is not there, a registry that was not named."""
    from corelane.app import serve
    from corelane.core.errors import NotFoundError

    for model in ("n", "m@challenger", "m@9"):
        with pytest.raises(NotFoundError):
            serve(registry=registry.place.url, models=[model])
    with pytest.raises(ConfigError, match="a registry must be given for 'm'"):
        serve(models=["m"])
    with pytest.raises(ConfigError, match="must have different names, got 'm'"):
        serve([registry.fetch("m", 1, tmp_path)], registry=registry.place.url, models=["m@2"])


def test_a_version_by_its_number_stays(registry: ModelManager) -> None:
    """Whatever the aliases do; another model of the same registry goes with its own."""
    for _ in range(2):
        numeric_package(Path(registry.place.url), "n")
    registry.promote("n", 1)
    with following(registry, "m@1", "n") as server:
        registry.promote("m", 2)
        registry.promote("n", 2)
        until(lambda: server.ask("GET", "/v2/models/n").json["versions"] == ["2"])
        assert served_version(server) == "1"


# --- loading when asked -----------------------------------------------------------------------------------------------

LOAD, UNLOAD = "/v2/repository/models/m/load", "/v2/repository/models/m/unload"


def test_loading_is_refused_unless_it_is_allowed(registry: ModelManager) -> None:
    """Whatever the model's name is: 403 and PERMISSION_DENIED, with the setting that allows it."""
    with following(registry, grpc_port=0) as server:
        for path in (LOAD, UNLOAD, "/v2/repository/models/../load", "/v2/repository/models/n/unload"):
            reply = server.ask("POST", path, {})
            assert (reply.status, "serve.model_control: explicit" in reply.json["error"]) == (403, True)
        assert server.ask("GET", LOAD).status == 405
        assert server.ask("POST", "/v2/repository/models/m/other", {}).status == 404
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
                with pytest.raises(grpc.RpcError) as caught:
                    called(channel, method, MESSAGES[f"{method}Request"](model_name="m"))
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_models_are_loaded_and_unloaded_when_asked(registry: ModelManager, num_workers: int) -> None:
    """In every worker before the call is answered; aliases are looked at then and at no other time."""
    with following(
        registry, model_control="explicit", management_port="main", workers=num_workers, grpc_port=0
    ) as server:

        def versions() -> set[str]:
            return {served_version(server) for _ in range(8)}

        def statuses() -> set[int]:
            return {server.ask("POST", INFER, BODY).status for _ in range(8)}

        registry.promote("m", 2)
        with Clients(server) as clients:
            clients.wait_for(500)
            assert versions() == {"1"}
            assert server.manage("POST", LOAD).status == 200
            assert versions() == {"2"}
            assert server.manage("POST", LOAD, {"parameters": {"version": 1}}).status == 200
            assert versions() == {"1"}
        assert clients.odd == []
        assert server.manage("POST", UNLOAD, {"parameters": {"unload_dependents": True}}).status == 200
        assert statuses() == {404}
        assert server.ask("GET", "/v2/health/ready").status == 200
        [one] = server.ask("POST", "/v2/repository/index").json
        assert (one["state"], one["reason"]) == (UNAVAILABLE, "it was unloaded")
        assert server.manage("POST", UNLOAD).status == 200
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            parameter = MESSAGES["ModelRepositoryParameter"](string_param="champion")
            request = MESSAGES["RepositoryModelLoadRequest"](model_name="m", parameters={"version": parameter})
            called(channel, "RepositoryModelLoad", request)
            assert asked_over_grpc(channel) == ("2", "2")
        assert (versions(), statuses()) == ({"2"}, {200})
        assert server.stop() == 0


def test_what_cannot_be_loaded_is_told_and_changes_nothing(registry: ModelManager, tmp_path: Path) -> None:
    """A model or version that is not there, one that is no good, files of the caller's own: the one before goes on."""
    bad = flipped(tmp_path, registry)
    with following(registry, model_control="explicit") as server:
        for name, parameters, status in (
            ("n", {}, 404),
            ("..", {}, 404),
            ("x" * 200, {}, 404),
            ("m", {"version": 9}, 404),
            ("m", {"version": "challenger"}, 404),
            ("m", {"version": "../1"}, 400),
            ("m", {"version": [1]}, 400),
            ("m", {"version": int(bad.name)}, 400),
            ("m", {"config": "{}"}, 400),
            ("m", {"file:1/model.onnx": "AAAA"}, 400),
        ):
            reply = server.manage("POST", f"/v2/repository/models/{name}/load", {"parameters": parameters})
            assert (reply.status, str(tmp_path) in reply.json["error"]) == (status, False), (name, parameters, reply)
        for body in (b"[]", b"{", {"parameters": []}, {"parameters": 7}):
            assert server.manage("POST", LOAD, body).status in (200, 400)
        assert server.manage("POST", "/v2/repository/models/n/unload").status == 404
        assert told_of(server.ask("POST", INFER, BODY).json) == {("1", "1")}


def test_a_worker_that_is_started_anew_serves_what_was_asked_for(registry: ModelManager) -> None:
    """Not what its alias says, nor what was unloaded."""
    with following(registry, model_control="explicit") as server:
        assert server.manage("POST", LOAD, {"parameters": {"version": 2}}).status == 200
        [worker] = server.workers()
        server.kill_worker(worker)
        until(lambda: server.workers() and server.workers() != [worker])
        until(lambda: server.answers(INFER, BODY))
        assert served_version(server) == "2"


def test_a_server_may_begin_with_no_model(registry: ModelManager) -> None:
    """And is ready: what it should serve it is told later."""
    with serving(registry=registry.place.url, model_control="explicit") as server:
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert server.ask("POST", INFER, BODY).status == 404
        assert server.manage("POST", LOAD).status == 200
        assert told_of(server.ask("POST", INFER, BODY).json) == {("1", "1")}


# --- one process, by hand ---------------------------------------------------------------------------------------------


class CountingOrigin(InRegistry):
    """Counts how often a package is fetched."""

    num_fetched = 0

    def fetch(self, version: int) -> tuple[Path, Release]:
        self.num_fetched += 1
        return super().fetch(version)


@contextmanager
def keeping(manager: ModelManager, copies: Path, clock: ManualClock) -> Iterator[tuple[Keeper, CountingOrigin, Any]]:
    """A keeper of m in this process, and the models that it changes."""
    memory = MemoryManager(1.0)
    models = ServedModels(
        ServeConfig(drain_timeout_s=5),
        metrics=MetricsCollector(),
        memory=memory,
        logger=QUIET,
        on_broken=lambda: pytest.fail("a loop broke"),
    )
    origin = CountingOrigin(manager, Reference("m"), Followed(url=manager.place.url, copies=copies))
    yield Keeper(origin, models, QUIET, clock=clock), origin, models
    models.close()
    assert memory.allocated_memory == 0, "what was reserved for models is given back"


def test_a_refused_version_is_not_tried_again_until_the_alias_is_set_anew(
    registry: ModelManager, tmp_path: Path
) -> None:
    """However often and however long it is looked; nothing of the refused one stays reserved."""
    bad = int(flipped(tmp_path, registry).name)
    clock = ManualClock()

    async def scenario(keeper: Keeper, origin: CountingOrigin, models: ServedModels) -> None:
        await keeper.start()
        registry.promote("m", bad)
        for _ in range(5):
            await keeper.look()
            clock.advance(10_000.0)
        assert (origin.num_fetched, models.servers["m"].model.version) == (2, 1)
        registry.promote("m", 2)
        await keeper.look()
        registry.promote("m", bad)
        await keeper.look()
        assert (origin.num_fetched, models.servers["m"].model.version) == (4, 2)
        with pytest.raises(BundleError):
            await keeper.load()
        await models.stop()

    with keeping(registry, tmp_path / "copies", clock) as (keeper, origin, models):
        asyncio.run(scenario(keeper, origin, models))


def test_a_failure_that_may_pass_is_tried_again_ever_more_rarely(registry: ModelManager, tmp_path: Path) -> None:
    """No room in the budget for two models: the second is taken when there is, and until then tried with pauses."""
    clock = ManualClock()

    async def scenario(keeper: Keeper, origin: CountingOrigin, models: ServedModels) -> None:
        await keeper.start()
        pool = models._memory.pool("model")
        with models._memory.reserve(pool.free_bytes, "model"):
            registry.promote("m", 2)
            await keeper.look()
            await keeper.look()
            assert origin.num_fetched == 2
            clock.advance(FIRST_WAIT_S)
            await keeper.look()
            assert origin.num_fetched == 3
            clock.advance(FIRST_WAIT_S)
            await keeper.look()
            assert origin.num_fetched == 3
            assert "model" in models.beside["m"].reason
        clock.advance(FIRST_WAIT_S)
        await keeper.look()
        assert (origin.num_fetched, models.servers["m"].model.version) == (4, 2)
        await models.stop()

    with keeping(registry, tmp_path / "copies", clock) as (keeper, origin, models):
        asyncio.run(scenario(keeper, origin, models))


def test_requests_that_met_the_old_version_are_answered_by_it(registry: ModelManager, tmp_path: Path) -> None:
    """Also those that wait in its queue, and a request in parts of which only some have run."""

    async def scenario(keeper: Keeper, _: CountingOrigin, models: ServedModels) -> None:
        await keeper.start()
        old = models.servers["m"]
        rows = np.ones((500, 4))
        asked = [asyncio.ensure_future(old.infer(Request(rows, 500, rows.nbytes))) for _ in range(5)]
        await asyncio.sleep(0)
        registry.promote("m", 2)
        await keeper.look()
        assert models.servers["m"].model.version == 2
        answers = await asyncio.gather(*asked)
        assert {int(label) for answer in answers for label in answer.outputs["label"]} == {1}
        assert not old.is_ready
        await models.stop()

    with keeping(registry, tmp_path / "copies", ManualClock()) as (keeper, origin, models):
        asyncio.run(scenario(keeper, origin, models))


def test_a_version_that_is_loading_is_told_of(registry: ModelManager, tmp_path: Path) -> None:
    """Beside the one that serves, which is ready all the while."""

    async def scenario(keeper: Keeper, _: CountingOrigin, models: ServedModels) -> None:
        await keeper.start()
        registry.promote("m", 2)
        looking = asyncio.ensure_future(keeper.look())
        seen = set()
        while not looking.done():
            seen.add(tuple((one.version, one.state) for one in models.index(is_serving=True)))
            await asyncio.sleep(0)
        assert ((1, READY), (2, LOADING)) in seen
        assert seen <= {((1, READY),), ((1, READY), (2, LOADING)), ((2, READY),)}
        await models.stop()

    with keeping(registry, tmp_path / "copies", ManualClock()) as (keeper, origin, models):
        asyncio.run(scenario(keeper, origin, models))


def test_packages_from_elsewhere_are_copied_and_cleared_away(registry: ModelManager, tmp_path: Path) -> None:
    """A registry in other storage: each version is fetched once, and its copy goes when it is served no more."""
    remote = ModelManager(f"memory://models-{token_hex(6)}")
    for version in (1, 2):
        remote.publish(registry.fetch("m", version, tmp_path))
    remote.promote("m", 1)
    copies = tmp_path / "copies"

    async def scenario(keeper: Keeper, origin: CountingOrigin, models: ServedModels) -> None:
        await keeper.start()
        assert [path.name for path in (copies / "m").iterdir()] == ["1"]
        remote.promote("m", 2)
        await keeper.look()
        assert [path.name for path in (copies / "m").iterdir()] == ["2"]
        await keeper.unload()
        assert list((copies / "m").iterdir()) == []
        await models.stop()

    with keeping(remote, copies, ManualClock()) as (keeper, origin, models):
        asyncio.run(scenario(keeper, origin, models))
