"""mosec: one worker, batches of 32 rows, 2 ms to fill one."""

from __future__ import annotations

from typing import Any

import numpy as np
from mosec import Server, Worker

from benchmarks.serving.session import opened


class Network(Worker):
    """Rows as they come in JSON."""

    def __init__(self) -> None:
        super().__init__()
        self._run = opened()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A batch of requests."""
        rows = np.asarray([one["x"][0] for one in data], np.float32)
        return [{"y": [logits]} for logits in self._run(rows).tolist()]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Network, num=1, max_batch_size=32, max_wait_time=2)
    server.run()
