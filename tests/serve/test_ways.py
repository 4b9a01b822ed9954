"""Runs side by side: as many as there are threads, sharing what waits; alone on all of them where nobody else waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.core.errors import OverloadedError
from corelane.model.candidate import Candidate
from corelane.serve import runner, ways
from corelane.serve.config import ServeConfig
from corelane.serve.pace import Pace
from corelane.serve.request import Response
from corelane.serve.server import ModelServer
from corelane.serve.ways import ALONE_S, THREAD_HOP_S
from tests.serve.packages import numeric_package
from tests.serve.test_server import SLOW, count_runs, request_of, serving

MEDIUM = Pace(fixed_s=0.002, row_s=0.0)  # long enough for a thread, short enough to keep one in line


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numeric_package(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def server(package: Path) -> Iterator[ModelServer]:
    server = ModelServer(package, ServeConfig(batch_size=8, queue_size=20))
    yield server
    server.close()


def held(server: ModelServer) -> tuple[list[int], threading.Event]:
    """The sizes of the runs that have begun, each of which waits for the event."""
    begun: list[int] = []
    release = threading.Event()
    predict = server.predictor.predict_matrix

    def wait(values: Any) -> Any:
        begun.append(len(values))
        assert release.wait(10)
        return predict(values)

    server.predictor.predict_matrix = wait  # type: ignore[method-assign]
    return begun, release


def test_what_waits_is_shared_out_among_the_threads(server: ModelServer) -> None:
    """Two threads take half of what came at once each, at the same time."""
    server.pace = SLOW
    server.widen(2)
    begun, release = held(server)

    async def scenario() -> None:
        asked = [asyncio.create_task(server.infer(request_of(np.zeros(4)))) for _ in range(6)]
        while len(begun) < 2:
            await asyncio.sleep(0.001)
        assert begun == [3, 3]
        release.set()
        await asyncio.gather(*asked)

    serving(server, scenario)


@pytest.mark.parametrize(("pace", "num_in_line"), [(MEDIUM, 1), (SLOW, 0)])
def test_one_run_is_kept_in_line_where_runs_are_short(server: ModelServer, pace: Pace, num_in_line: int) -> None:
    """A thread need not wait for the event loop then; longer runs are not promised a thread before it is free."""
    server.pace = pace
    server.widen(2)
    begun, release = held(server)

    async def scenario() -> None:
        asked = []
        for _ in range(2):
            asked.append(asyncio.create_task(server.infer(request_of(np.zeros(4)))))
            while len(begun) < len(asked):
                await asyncio.sleep(0.001)
        for _ in range(3):
            asked.append(asyncio.create_task(server.infer(request_of(np.zeros(4)))))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert server.request_queue.qsize() == 3 - num_in_line
        assert len(begun) == 2
        release.set()
        await asyncio.gather(*asked)

    serving(server, scenario)


def test_a_run_takes_no_more_rows_than_pay(server: ModelServer) -> None:
    """Where a row costs as much in any company, each has a run of its own; where a run costs, rows share it."""
    server.widen(2)
    server.pace = Pace(0.0, 0.1)
    sizes = count_runs(server)

    async def scenario() -> None:
        await asyncio.gather(*(server.infer(request_of(np.zeros(4))) for _ in range(5)))

    serving(server, scenario)
    assert sizes == [1] * 5
    way = server.runner.narrow
    way.pace = Pace(THREAD_HOP_S * 3, THREAD_HOP_S * 19)  # four fixed parts of 200 us in 4 rows of 3.8 ms
    assert way.paying_rows == 4


@pytest.mark.parametrize("is_wide_better", [True, False])
def test_a_request_alone_gets_all_threads_and_several_the_better_way(
    server: ModelServer, is_wide_better: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone it is answered soonest; where more wait, the way that gives more rows a second is taken."""
    monkeypatch.setattr(ways, "WORTH", 0.0)

    def asked() -> Any:
        return server.infer(request_of(np.zeros(4), wants_receipt=True))

    async def scenario() -> tuple[Response, list[Response]]:
        await server.adopt(Candidate("onnxruntime", "fp32", threads=2))
        assert server.runner.wide is not None
        server.runner.narrow.pace = Pace(0.0, 0.010)
        server.runner.wide.pace = Pace(0.0, 0.015 if is_wide_better else 0.025)
        return await asked(), await asyncio.gather(*(asked() for _ in range(4)))

    alone, together = serving(server, scenario)
    assert "2 threads" in alone.receipt.plan
    plans = {response.receipt.plan for response in together}
    assert any("2 streams x 1 thread" in plan for plan in plans) == is_wide_better


def watched(server: ModelServer, seconds: float = 0.0) -> list[int]:
    """The threads in which runs take place from now on, each of which takes `seconds` more."""
    threads: list[int] = []
    predict = server.predictor.predict_matrix

    def watch(values: Any) -> Any:
        threads.append(threading.get_ident())
        time.sleep(seconds)
        return predict(values)

    server.predictor.predict_matrix = watch  # type: ignore[method-assign]
    return threads


def test_a_worker_of_one_cpu_runs_what_is_not_long_itself_and_gives_others_their_turn(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the event loop's thread, a batch a turn: a health check waits for one run, not for all that wait."""
    monkeypatch.setattr(runner, "num_cpus", lambda: 1)
    server = ModelServer(package, ServeConfig(batch_size=1))
    server.pace = MEDIUM
    threads = watched(server)

    async def scenario() -> list[int]:
        asked = [asyncio.create_task(server.infer(request_of(np.zeros(4)))) for _ in range(5)]
        seen = []
        while not all(task.done() for task in asked):
            await asyncio.sleep(0)
            seen.append(len(threads))
        await asyncio.gather(*asked)
        return seen

    seen = serving(server, scenario)
    server.close()
    assert threads == [threading.get_ident()] * 5
    assert {1, 2, 3, 4} <= set(seen)


def test_a_worker_of_one_cpu_hands_over_what_has_become_long(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is slower than it was at load would hold up everybody."""
    monkeypatch.setattr(runner, "num_cpus", lambda: 1)
    server = ModelServer(package, ServeConfig(batch_size=1))
    server.pace = MEDIUM
    threads = watched(server, 4 * ALONE_S)

    async def scenario() -> None:
        for _ in range(6):
            await server.infer(request_of(np.zeros(4)))

    serving(server, scenario)
    server.close()
    assert threads[0] == threading.get_ident()
    assert threads[-1] != threading.get_ident()


def test_admission_counts_all_threads(server: ModelServer) -> None:
    """What two threads work off in time is let in, and what they do not is told at once."""
    server.pace = Pace(1.0, 0.0)
    server.widen(2)
    server.batch_processor.policy = type(server.batch_processor.policy)(1)
    begun, release = held(server)

    async def scenario() -> None:
        now_s = server._monotonic()
        asked = [asyncio.create_task(server.infer(request_of(np.zeros(4), deadline_s=now_s + 30))) for _ in range(2)]
        while len(begun) < 2:
            await asyncio.sleep(0.001)
        asked.append(asyncio.create_task(server.infer(request_of(np.zeros(4), deadline_s=now_s + 3))))
        with pytest.raises(OverloadedError):
            await server.infer(request_of(np.zeros(4), deadline_s=now_s + 2))
        release.set()
        await asyncio.gather(*asked)

    serving(server, scenario)


def test_a_fault_in_a_turn_ends_the_server(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not lost in a callback: `serve` raises it, and whoever watches starts another worker."""

    def broken(_: int) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(server.request_queue, "take", broken)

    async def scenario() -> None:
        loop = asyncio.create_task(server.serve())
        await asyncio.sleep(0)
        server.submit(request_of(np.zeros(4)), lambda _: None)
        with pytest.raises(ZeroDivisionError):
            await loop

    asyncio.run(scenario())
