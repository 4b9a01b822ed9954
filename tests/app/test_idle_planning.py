"""A server without a plan searches one when the machine is idle, and runs as it says from then on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from corelane.app import idle_planning
from corelane.app.idle_planning import plan_when_idle
from corelane.app.planned import chosen_for, plan_key
from corelane.core.clock import ManualClock
from corelane.machine.cpu import Machine
from corelane.machine.plan import Plan
from corelane.model.candidate import Candidate
from corelane.model.package import ModelPackage, write_package
from corelane.model.registry import ModelManager
from corelane.store.plan_cache import write_plan
from tests.model import examples
from tests.serve.live import LiveServer, serving
from tests.serve.test_following import until


class ImpatientClock(ManualClock):
    """Does not wait; time passes as it does, so that what is timed takes its time."""

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "packages", examples.contents(examples.matrix()), lambda _: None)


def test_a_plan_is_searched_when_nobody_needs_the_cpus(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine is waited for, as long as it takes; an idle one is searched, and the plan is kept."""
    monkeypatch.setattr(idle_planning.os, "nice", lambda _: None)  # it would hold for all further tests
    monkeypatch.setattr(idle_planning, "IDLE_SHARE", -1.0)
    monkeypatch.setattr(idle_planning, "MOST_ATTEMPTS", 3)
    clock = ImpatientClock()
    assert plan_when_idle(package, tmp_path / "cache", clock=clock) is None
    assert clock.slept == [idle_planning.IDLE_S] * 3
    monkeypatch.setattr(idle_planning, "IDLE_SHARE", 1.0)
    monkeypatch.setattr(idle_planning, "BUSY_SHARE", 1.0)
    plan = plan_when_idle(package, tmp_path / "cache", clock=clock)
    assert plan is not None
    assert chosen_for(ModelPackage.load(package), "latency", cache=tmp_path / "cache") == plan.chosen


def test_a_version_that_comes_later_is_planned_too(tmp_path: Path) -> None:
    """What is served first has a plan, and nothing is searched; a version that takes over has none: that one is."""
    registry = ModelManager(tmp_path / "registry")
    first, second = (
        write_package(tmp_path / "registry", examples.contents(examples.matrix()), lambda _: None) for _ in range(2)
    )
    registry.promote(first.parent.name, 1)
    key = plan_key(ModelPackage.load(first).digest, "latency", Machine.detect())
    (tmp_path / "cache/plans").mkdir(parents=True)
    plan = Plan(key, (), Candidate("onnxruntime", "fp32", threads=1, streams=1), "for a test")
    write_plan(tmp_path / f"cache/plans/{key}.json", plan)
    settings = {"registry": registry.place.url, "models": f"[{first.parent.name}]", "poll_s": 0.05, "plan": "auto"}
    with serving(**settings, root={"machine.cache": tmp_path / "cache"}) as server:
        time.sleep(3 * idle_planning.LOOK_S)
        assert searches(server) == []
        registry.promote(first.parent.name, 2)
        until(lambda: searches(server))
        assert searches(server) == [str(second)]


def searches(server: LiveServer) -> list[str]:
    """The packages for which the server searches plans, or will soon."""
    commands = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in server.workers()]
    return [command[-2] for command in commands if "plan-worker" in command]


def test_a_running_server_takes_up_its_plan(package: Path, tmp_path: Path) -> None:
    """The plan appears in the cache while the server runs: its log says that it is used, and stopping is as ever."""
    config = tmp_path / "serve.yaml"
    config.write_text(f"name: s\nmachine: {{cache: {tmp_path / 'cache'}}}\nobserve: {{log_level: info}}\n")
    argv = [sys.executable, "-m", "corelane", "serve", str(package), "--config", str(config), "--port", "0", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert json.loads(server.stdout.readline())["event"] == "listening"
        key = plan_key(ModelPackage.load(package).digest, "latency", Machine.detect())
        chosen = Candidate("onnxruntime", "fp32", threads=2)
        (tmp_path / "cache/plans").mkdir(parents=True)
        plan = Plan(key, (), replace(chosen, threads=1, streams=2), "for a test")
        write_plan(tmp_path / f"cache/plans/{key}.json", plan)
        lines = iter(server.stderr.readline, "")
        assert any("plan_used" in line for line in lines)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
