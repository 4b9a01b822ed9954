"""A served package and its plan: taken up where it can be run, told of where it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from corelane.machine.plan import Plan
from corelane.model.candidate import Candidate
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.serve.config import ServeConfig
from corelane.serve.planned import Planned, take_up
from corelane.serve.server import ModelServer
from corelane.store.plan_cache import write_plan
from tests.serve.live import serving
from tests.serve.packages import numeric_package
from tests.serve.test_following import until

QUIET = SystemLogger(ObserveConfig(log_level="error"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    server = ModelServer(numeric_package(tmp_path / "packages"), ServeConfig())
    yield server
    server.close()


def planned(folder: Path, chosen: Candidate, threads: int = 2) -> Planned:
    write_plan(folder / "plan.json", Plan("key", (), chosen, "for a test"))
    return Planned(file=folder / "plan.json", threads=threads)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie, which whoever has adopted it has yet to wait for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_plan_is_taken_up_within_the_threads_of_a_worker(server: ModelServer, tmp_path: Path) -> None:
    """As it says, but on no more threads than the worker has."""
    plan = planned(tmp_path, Candidate("onnxruntime", "fp32", threads=8))
    assert asyncio.run(take_up(server, plan, QUIET))
    assert server.candidate == Candidate("onnxruntime", "fp32", threads=2)


def test_a_plan_that_cannot_be_run_changes_nothing(server: ModelServer, tmp_path: Path) -> None:
    """A graph that the package does not have: the server is as it was, and does not ask again."""
    before, predictor = server.candidate, server.predictor
    assert asyncio.run(take_up(server, planned(tmp_path, Candidate("onnxruntime", "int8")), QUIET))
    assert (server.candidate, server.predictor) == (before, predictor)


def test_no_plan_or_a_broken_one_is_none(server: ModelServer, tmp_path: Path) -> None:
    """The server waits for one."""
    assert not asyncio.run(take_up(server, Planned(), QUIET))
    (tmp_path / "plan.json").write_text(json.dumps({"version": 99}))
    assert not asyncio.run(take_up(server, Planned(file=tmp_path / "plan.json"), QUIET))


def test_stopping_leaves_no_search_behind(tmp_path: Path) -> None:
    """The process that would search has not begun yet; it goes with the server, and what it waits in goes too."""
    with serving(numeric_package(tmp_path / "packages"), plan="auto") as server:
        until(lambda: len(server.workers()) == 2)
        children = server.workers()
        grandchildren = [
            int(pid)
            for child in children
            for tasks in Path(f"/proc/{child}/task").glob("*/children")
            for pid in tasks.read_text().split()
        ]
        assert server.stop() == 0
    assert not [pid for pid in (*children, *grandchildren) if is_running(pid)]
