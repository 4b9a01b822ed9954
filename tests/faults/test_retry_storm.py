"""Row D17 of the list in `docs/faults.md`: three times what a server can do, from clients that ask again.

The canary takes 10 ms a row, one at a time: 100 a second. A call is made every 3 ms, whatever became of those before.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest

from corelane.client import AsyncClient, RetryBudget
from corelane.core.errors import DeadlineError, OverloadedError
from tests.serve.live import LiveServer, serving
from tests.serve.packages import numeric_package

pytestmark = pytest.mark.alone

CAPACITY, FACTOR, SECONDS = 100, 3, 3.0
TIMEOUT_S = 1.0
NUM_CALLS = int(CAPACITY * FACTOR * SECONDS)
SLEEPING = Path(__file__).parent / "sleeping"


def asked(server: LiveServer) -> int:
    """How many requests the model has had, by the server's own count."""
    text = server.ask("GET", "/metrics").body.decode()
    return sum(int(float(n)) for n in re.findall(r'corelane_inference_requests_total\{model="m".*\} (\S+)', text))


async def storm(url: str, num_retries: int) -> list[str]:
    """What became of each call; one that is refused is made `num_retries` times more, a tenth of a second later."""

    async def call(client: AsyncClient) -> str:
        for _ in range(1 + num_retries):
            try:
                await client.infer("m", {"features": np.zeros((1, 4))}, timeout_s=TIMEOUT_S)
            except (OverloadedError, DeadlineError) as error:
                end = error.code
                await asyncio.sleep(0.1)
            else:
                return "answered"
        return end

    budget = RetryBudget()
    async with AsyncExitStack() as stack:  # several, since each has so many connections only
        clients = [await stack.enter_async_context(AsyncClient(url, budget=budget)) for _ in range(8)]
        calls = []
        for index in range(NUM_CALLS):
            calls.append(asyncio.create_task(call(clients[index % len(clients)])))
            await asyncio.sleep(SECONDS / NUM_CALLS)
        return await asyncio.gather(*calls)


@pytest.mark.parametrize("num_retries", [0, 3], ids=["our clients", "clients that insist"])
def test_a_server_outlives_a_storm_of_retries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_retries: int
) -> None:
    """It does what it can do all the while; our own clients ask a tenth more at most, and what they had saved up."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SLEEPING), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("SLEEPING_ROW_S", str(1 / CAPACITY))
    with serving(numeric_package(tmp_path), batch_size=1) as server:
        ends = asyncio.run(storm(server.url, num_retries))
        seen = asked(server)
        assert set(ends) <= {"answered", "overloaded", "deadline_exceeded"}
        assert ends.count("answered") >= 0.8 * CAPACITY * SECONDS
        if num_retries:
            assert seen > 1.2 * NUM_CALLS
        else:
            assert seen <= 1.1 * NUM_CALLS + 10 + SECONDS + TIMEOUT_S
        assert server.ask("GET", "/v2/health/ready").status == 200
