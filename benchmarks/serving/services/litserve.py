"""LitServe: batches of 32 rows, 2 ms to fill one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import litserve as ls
import numpy as np

from benchmarks.serving.endpoint import HOST
from benchmarks.serving.session import opened


class Network(ls.LitAPI):
    """Rows as they come in JSON."""

    def setup(self, device: str) -> None:
        """In the worker."""
        del device
        self._run = opened()

    def decode_request(self, request):  # type: ignore[no-untyped-def] # a type would be taken for one of FastAPI's
        """The one row of a request, which comes as its JSON."""
        return request["x"][0]

    def batch(self, inputs: Sequence[Any]) -> Any:
        """Rows together."""
        return np.asarray(inputs, np.float32)

    def predict(self, rows: Any) -> Any:
        """Their logits."""
        return self._run(rows)

    def unbatch(self, logits: Any) -> list[Any]:
        """Row by row."""
        return list(logits)

    def encode_response(self, logits: Any) -> dict[str, Any]:
        """As the other peers answer."""
        return {"y": [logits.tolist()]}


if __name__ == "__main__":
    server = ls.LitServer(Network(max_batch_size=32, batch_timeout=0.002), accelerator="cpu", workers_per_device=1)
    server.run(host=HOST, port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
