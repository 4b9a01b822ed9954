"""Row D15 of the list in `docs/faults.md`: the wall clock of a server jumps an hour forth and two back."""

from __future__ import annotations

import http.client
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.faults.wall_clock import WallClock
from tests.serve.live import LiveServer, Reply, ask, serving, tensor
from tests.serve.packages import numeric_package

BODY = {"inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}
JUMP_S = 3600


def predicted(server: LiveServer, connection: http.client.HTTPConnection) -> Reply:
    """A request with a second to its deadline, which must hold whatever the wall clock says."""
    reply = ask(
        connection, "POST", "/v2/models/m/infer", BODY, {"Corelane-Timeout-Ms": "1000", "Corelane-Receipt": "1"}
    )
    assert reply.status == 200, reply
    queued = server.ask("GET", "/v2/models/m/slowest").json["slowest"]
    assert all(0 <= one["total_us"] < 1e6 and one["age_s"] < JUMP_S / 2 for one in queued)
    return reply


def told_s(reply: Reply) -> float:
    return parsedate_to_datetime(reply.headers["date"]).timestamp()


@pytest.mark.needs("gcc")
def test_a_wall_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines, kept connections, slowest requests and the end go by a clock that nobody sets; only `Date` follows."""
    clock = WallClock(tmp_path)
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    with serving(numeric_package(tmp_path), management_port=0) as server:
        connection = server.connect()
        assert abs(told_s(predicted(server, connection)) - time.time()) < 5
        for jump_s in (JUMP_S, -JUMP_S):
            clock.set(jump_s)
            until_s = time.monotonic() + 10
            while abs(told_s(predicted(server, connection)) - time.time() - jump_s) > 5:
                assert time.monotonic() < until_s, "Date must follow the wall clock"
            assert predicted(server, connection).status == 200
            assert server.manage("GET", "/v2/health/ready").status == 200
        assert [one["restarts"] for one in server.manage("GET", "/workers").json["workers"]] == [0]
        connection.close()
        assert server.stop() == 0
