"""Ray Serve: one replica, batches of 32 rows, 2 ms to fill one, 200 requests under way."""

from __future__ import annotations

import signal
import sys
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.endpoint import HOST
from benchmarks.serving.session import opened


@serve.deployment(num_replicas=1, max_ongoing_requests=200, ray_actor_options={"num_cpus": 1})
class Network:
    """Rows as they come in JSON."""

    def __init__(self) -> None:
        self._run = opened()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]
    async def _answer(self, rows: list[Any]) -> list[Any]:
        logits: list[Any] = self._run(np.asarray(rows, np.float32)).tolist()
        return logits

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One request."""
        return {"y": [await self._answer((await request.json())["x"][0])]}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": HOST, "port": int(sys.argv[1])})
    serve.run(Network.bind(), route_prefix="/")
    signal.pause()
