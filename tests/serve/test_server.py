"""`ModelServer`: answers equal the predictor's, batches form by themselves, failures stay with their request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.core.errors import DeadlineError, NotFoundError, NotReadyError, OverloadedError, RequestError
from corelane.model.candidate import Candidate
from corelane.observe.metrics import MetricsCollector
from corelane.serve.config import ServeConfig
from corelane.serve.pace import Pace
from corelane.serve.request import Request, Response
from corelane.serve.server import ModelServer
from tests.serve.packages import mixed_package, numeric_package

SLOW = Pace(fixed_s=1.0, row_s=0.0)  # makes every run one for the executor thread
SHORT = Pace(fixed_s=0.0, row_s=0.0)  # makes every run one for the event loop's thread


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numeric_package(tmp_path_factory.mktemp("packages"))


@pytest.fixture(params=[SHORT, SLOW], ids=["inline", "thread"])
def server(package: Path, request: pytest.FixtureRequest) -> Iterator[ModelServer]:
    server = ModelServer(package, ServeConfig(batch_size=8, queue_size=20), metrics=MetricsCollector())
    server.pace = request.param
    yield server
    server.close()


def serving(server: ModelServer, scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        loop = asyncio.create_task(server.serve())
        await asyncio.sleep(0)
        try:
            return await scenario()
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)

    return asyncio.run(main())


def request_of(rows: Any, **options: Any) -> Request:
    values = np.asarray(rows, dtype=np.float64).reshape(-1, 4)
    return Request(values, len(values), 100, **options)


def count_runs(server: ModelServer) -> list[int]:
    """The sizes of the runs from now on."""
    sizes: list[int] = []
    predict = server.predictor.predict_matrix

    def counted(values: Any) -> Any:
        sizes.append(len(values))
        return predict(values)

    server.predictor.predict_matrix = counted  # type: ignore[method-assign]
    return sizes


def test_answers_equal_the_predictors(server: ModelServer) -> None:
    """Many requests at once, of different sizes, each get exactly the rows the predictor gives for them alone."""
    rows = np.random.default_rng(0).standard_normal((24, 4))
    parts = [rows[0:1], rows[1:4], rows[4:5], rows[5:17], rows[17:24]]

    async def scenario() -> list[Response]:
        return await asyncio.gather(*(server.infer(request_of(part)) for part in parts))

    for part, response in zip(parts, serving(server, scenario), strict=True):
        expected = server.predictor.predict_matrix(part)
        assert response.outputs["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(response.outputs["probabilities"], expected["probabilities"], atol=1e-6)


def test_requests_of_one_turn_run_as_one_batch(server: ModelServer) -> None:
    """What arrives in one turn of the event loop is run together, up to the batch size."""
    sizes = count_runs(server)

    async def scenario() -> None:
        await asyncio.gather(*(server.infer(request_of(np.zeros(4))) for _ in range(13)))

    serving(server, scenario)
    assert sizes == [8, 5]


def test_a_poisoned_request_fails_alone(server: ModelServer) -> None:
    """A request the pipeline refuses gets its own error, naming its own row; the others of its batch are answered."""

    async def scenario() -> list[Any]:
        good = [server.infer(request_of(np.zeros(4))) for _ in range(3)]
        bad = server.infer(request_of([[0, 0, 0, 0], [np.nan, 0, 0, 0]]))
        return await asyncio.gather(*good[:2], bad, good[2], return_exceptions=True)

    first, second, refused, last = serving(server, scenario)
    assert isinstance(refused, RequestError)
    assert "row 1: x0 must have a value" in refused.message
    assert all(isinstance(response, Response) for response in (first, second, last))


def test_a_model_that_fails_fails_only_the_request_it_fails_on(server: ModelServer) -> None:
    """An unexpected error of the runtime on one request's rows does not reach its neighbours."""
    predict = server.predictor.predict_matrix

    def touchy(values: Any) -> Any:
        if (values == 13).any():
            raise ZeroDivisionError
        return predict(values)

    server.predictor.predict_matrix = touchy  # type: ignore[method-assign]

    async def scenario() -> list[Any]:
        asked = [server.infer(request_of(np.full(4, value))) for value in (1.0, 13.0, 2.0)]
        return await asyncio.gather(*asked, return_exceptions=True)

    one, thirteen, two = serving(server, scenario)
    assert isinstance(thirteen, ZeroDivisionError)
    assert isinstance(one, Response)
    assert isinstance(two, Response)


def test_a_full_queue_sheds_with_a_time_to_come_back(server: ModelServer) -> None:
    """A request beyond the bound is refused at once; those before it are answered."""

    async def scenario() -> list[Any]:
        return await asyncio.gather(*(server.infer(request_of(np.zeros(4))) for _ in range(25)), return_exceptions=True)

    results = serving(server, scenario)
    shed = [result for result in results if isinstance(result, OverloadedError)]
    assert len(shed) == 5
    assert 1 <= shed[0].retry_after_s <= 60
    assert sum(isinstance(result, Response) for result in results) == 20


def test_a_request_past_its_deadline_is_never_run(server: ModelServer) -> None:
    """A deadline that has passed when the batch is formed is answered with its error and costs no run."""
    sizes = count_runs(server)

    async def scenario() -> list[Any]:
        late, good = request_of(np.ones(4), deadline_s=0.0), request_of(np.zeros(4))
        return await asyncio.gather(server.infer(late), server.infer(good), return_exceptions=True)

    late, good = serving(server, scenario)
    assert isinstance(late, DeadlineError)
    assert isinstance(good, Response)
    assert sizes == [1]


def test_long_runs_leave_the_event_loop_free(package: Path) -> None:
    """A long run happens in the executor's thread, one at a time, and what arrives meanwhile is the next batch."""
    server = ModelServer(package, ServeConfig(batch_size=8))
    server.pace = SLOW
    sizes, threads = count_runs(server), set()
    entered, release = threading.Event(), threading.Event()
    predict = server.predictor.predict_matrix

    def held(values: Any) -> Any:
        threads.add(threading.current_thread().name)
        entered.set()
        assert release.wait(10)
        return predict(values)

    server.predictor.predict_matrix = held  # type: ignore[method-assign]

    async def scenario() -> None:
        first = asyncio.create_task(server.infer(request_of(np.zeros(4))))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(server.infer(request_of(np.zeros(4)))) for _ in range(4)]
        await asyncio.sleep(0.01)
        assert server.request_queue.qsize() == 4
        release.set()
        await asyncio.gather(first, *rest)

    serving(server, scenario)
    server.close()
    assert sizes == [1, 4]
    assert threads == {"run-m-0"}


def test_a_delay_lets_a_batch_grow(package: Path) -> None:
    """With a configured delay requests of different turns run together."""
    server = ModelServer(package, ServeConfig(batch_size=8, batch_delay_s=0.05))
    sizes = count_runs(server)

    async def scenario() -> None:
        first = asyncio.create_task(server.infer(request_of(np.zeros(4))))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, server.infer(request_of(np.zeros(4))))

    serving(server, scenario)
    server.close()
    assert sizes == [2]


def test_requests_before_and_after_serving_are_refused(server: ModelServer) -> None:
    """Nothing is queued that nobody would answer, and what waits when serving ends is told so."""
    with pytest.raises(NotReadyError):
        asyncio.run(server.infer(request_of(np.zeros(4))))

    async def main() -> Any:
        loop = asyncio.create_task(server.serve())
        await asyncio.sleep(0)
        asked = asyncio.create_task(server.infer(request_of(np.zeros(4))))
        server._is_turn_due = True  # its turn never comes
        await asyncio.sleep(0)
        loop.cancel()
        return await asyncio.gather(asked, return_exceptions=True)

    assert isinstance(asyncio.run(main())[0], NotReadyError)


def test_columns_are_served_like_matrices(tmp_path: Path) -> None:
    """A model with categories and missing values answers column requests as its predictor does."""
    server = ModelServer(mixed_package(tmp_path), ServeConfig())
    columns = {"age": np.array([1.0, 50.0]), "weight": np.array([np.nan, 3.0]), "colour": ["red", None]}

    async def scenario() -> list[Response]:
        return await asyncio.gather(server.infer(Request(columns, 2, 10)), server.infer(Request(columns, 2, 10)))

    for response in serving(server, scenario):
        expected = server.predictor.predict_columns(columns)["value"]
        np.testing.assert_allclose(response.outputs["value"], expected, rtol=1e-5)
    server.close()


def test_the_batches_are_measured(package: Path) -> None:
    """Each run is observed with its rows under the model's name."""
    metrics = MetricsCollector()
    server = ModelServer(package, ServeConfig(), metrics=metrics)
    serving(server, lambda: server.infer(request_of(np.zeros((3, 4)))))
    server.close()
    assert b'corelane_inference_batch_rows_sum{model="m"} 3.0' in metrics.render()


def test_a_plan_is_adopted_without_a_failed_request(server: ModelServer) -> None:
    """Requests before, during and after the change are answered alike; the former runtime is closed at the end."""
    former = server.predictor
    rows = np.random.default_rng(0).normal(size=(40, 4))

    async def ask() -> list[Response]:
        answers = []
        for row in rows:
            answers.append(await server.infer(request_of(row)))
            await asyncio.sleep(0)
        return answers

    async def scenario() -> tuple[list[Response], list[Response]]:
        during = asyncio.create_task(ask())
        await server.adopt(Candidate("onnxruntime", "fp32", threads=2))
        return await during, await ask()

    during, after = serving(server, scenario)
    for one, other in zip(during, after, strict=True):
        assert np.allclose(one.outputs["probabilities"], other.outputs["probabilities"], atol=1e-5)
    assert server.predictor is not former
    with pytest.raises(NotReadyError):
        former.predict_matrix(rows)


def test_a_plan_that_cannot_run_changes_nothing(server: ModelServer) -> None:
    """The package has no such graph: the error is told, and requests are answered as before."""
    former = server.predictor

    async def scenario() -> Response:
        with pytest.raises(NotFoundError):
            await server.adopt(Candidate("onnxruntime", "int8"))
        return await server.infer(request_of(np.ones(4)))

    assert serving(server, scenario).outputs["probabilities"].shape[0] == 1
    assert server.predictor is former


def test_a_request_larger_than_a_batch_is_run_in_parts(server: ModelServer) -> None:
    """No run has more rows than a batch, others run between the parts, and the answer is that of the whole."""
    sizes = count_runs(server)
    rows = np.random.default_rng(1).standard_normal((30, 4))

    async def scenario() -> list[Response]:
        return await asyncio.gather(
            server.infer(request_of(rows, id="large")), *(server.infer(request_of(np.zeros(4))) for _ in range(3))
        )

    large, *others = serving(server, scenario)
    assert max(sizes) == 8
    assert sum(sizes) == 33
    assert large.request.id == "large"
    expected = server.predictor.predict_matrix(rows)
    np.testing.assert_allclose(large.outputs["probabilities"], expected["probabilities"], atol=1e-6)
    assert all(len(other.outputs["label"]) == 1 for other in others)


def test_a_large_request_fails_with_its_first_bad_part_and_is_run_no_further(server: ModelServer) -> None:
    """The message says from where its rows are counted; a full queue refuses it before any part is run."""
    rows = np.zeros((40, 4))
    rows[19, 0] = np.nan
    sizes = count_runs(server)

    async def scenario() -> list[Any]:
        return await asyncio.gather(server.infer(request_of(rows)), return_exceptions=True)

    (error,) = serving(server, scenario)
    assert isinstance(error, RequestError)
    assert "in the rows from 16 on, counted anew: row 3: x0 must have a value" in error.message
    assert sum(sizes) == 24


def test_columns_are_cut_as_matrices_are(tmp_path: Path) -> None:
    """Lists of texts and arrays alike."""
    server = ModelServer(mixed_package(tmp_path), ServeConfig(batch_size=4))
    columns = {"age": np.arange(20.0, 30.0), "colour": ["red", None] * 5, "weight": np.arange(50.0, 60.0)}

    async def scenario() -> Response:
        return await server.infer(Request(columns, 10, 100))

    server.pace = SLOW
    values = serving(server, scenario).outputs["value"]
    np.testing.assert_allclose(values, server.predictor.predict_columns(columns)["value"], rtol=1e-6)
    server.close()


def held_server(package: Path, pace: Pace, **settings: Any) -> tuple[ModelServer, threading.Event, threading.Event]:
    """A server whose runs wait for the second event, once the first says that one has begun."""
    server = ModelServer(package, ServeConfig(**settings))
    server.pace = pace
    entered, release = threading.Event(), threading.Event()
    predict = server.predictor.predict_matrix

    def held(values: Any) -> Any:
        entered.set()
        assert release.wait(10)
        return predict(values)

    server.predictor.predict_matrix = held  # type: ignore[method-assign]
    return server, entered, release


def test_what_must_be_answered_first_is_run_first(package: Path) -> None:
    """An urgent request overtakes those that came before it."""
    server, entered, release = held_server(package, Pace(0.01, 0.0), batch_size=1)
    order: list[str] = []

    async def scenario() -> None:
        now_s = time.monotonic()

        async def ask(name: str, deadline_s: float) -> None:
            await server.infer(request_of(np.zeros(4), deadline_s=now_s + deadline_s))
            order.append(name)

        first = asyncio.create_task(ask("first", 30))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(ask(name, left_s)) for name, left_s in (("late", 29), ("last", 30), ("urgent", 5))]
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(first, *rest)

    serving(server, scenario)
    server.close()
    assert order == ["first", "urgent", "late", "last"]


def test_who_cannot_be_answered_in_time_is_told_at_once(package: Path) -> None:
    """Counted are those who are run before him; with the time after which what waits will have run."""
    server, entered, release = held_server(package, Pace(1.0, 0.0), batch_size=1)  # 1 s a run, 1.5 s at worst

    async def scenario() -> None:
        now_s = time.monotonic()

        def ask(within_s: float) -> asyncio.Task[Response]:
            return asyncio.create_task(server.infer(request_of(np.zeros(4), deadline_s=now_s + within_s)))

        asked = [ask(5.0) for _ in range(4)]  # one runs, three wait
        while not entered.is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(OverloadedError, match="must be ready before the deadline") as told:
            await ask(5.2)
        assert told.value.retry_after_s == pytest.approx(3.0)
        asked += [ask(3.0), ask(30.0)]  # before all who wait, and after them
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.gather(*asked)

    serving(server, scenario)
    server.close()


def test_a_batch_is_as_large_as_its_first_deadline_allows(package: Path) -> None:
    """Runs of many rows take longer: the tightest request of a batch decides how many join it."""
    server = ModelServer(package, ServeConfig(batch_size=8))
    server.pace = Pace(0.0, 0.1)  # 0.15 s a row at worst
    sizes = count_runs(server)

    async def scenario() -> None:
        now_s = time.monotonic()
        asked = [server.infer(request_of(np.zeros(4), deadline_s=now_s + 0.5)) for _ in range(3)]
        asked += [server.infer(request_of(np.zeros(4), deadline_s=now_s + 30)) for _ in range(5)]
        await asyncio.gather(*asked, return_exceptions=True)

    serving(server, scenario)
    server.close()
    assert sizes[0] == 2
    assert sum(sizes) == 8


def test_given_up_requests_are_not_run(package: Path) -> None:
    """Whose caller has left while they waited."""
    server, entered, release = held_server(package, SLOW, batch_size=1)
    ran: list[Any] = []

    async def scenario() -> None:
        running = asyncio.create_task(server.infer(request_of(np.zeros(4))))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        request = request_of(np.ones(4))
        waiting = asyncio.create_task(server.infer(request))
        await asyncio.sleep(0.01)
        request.give_up()
        release.set()
        ran.append(await running)
        with pytest.raises(DeadlineError):
            await waiting

    serving(server, scenario)
    server.close()
    assert len(ran) == 1


def test_the_slowest_are_kept_with_where_their_time_went(server: ModelServer) -> None:
    """Without being asked for."""

    async def scenario() -> None:
        await asyncio.gather(*(server.infer(request_of(np.zeros(4))) for _ in range(30)), return_exceptions=True)

    serving(server, scenario)
    told = server.slowest.to_json(time.monotonic())
    assert told
    assert {"total_us", "queue_us", "compute_us", "batch_rows", "plan", "rows", "bytes", "age_s"} == told[0].keys()


def test_a_large_request_that_is_given_up_is_run_no_further(package: Path) -> None:
    """Neither the part that waits nor those behind it."""
    server, entered, release = held_server(package, SLOW, batch_size=8)
    sizes = count_runs(server)

    async def scenario() -> None:
        first = asyncio.create_task(server.infer(request_of(np.zeros(4))))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        large = request_of(np.zeros((40, 4)))
        answers: list[Any] = []
        server.submit(large, answers.append)
        large.give_up()
        release.set()
        await first
        while not answers:
            await asyncio.sleep(0.001)
        assert isinstance(answers[0], DeadlineError)

    serving(server, scenario)
    server.close()
    assert sizes == [1]
