"""BentoML: batches of 32 rows, at most 50 ms a request."""

from __future__ import annotations

import bentoml
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.session import opened


@bentoml.service(workers=1)
class Network:
    """Rows as they come in JSON."""

    def __init__(self) -> None:
        self._run = opened()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=50)
    def predict(self, x: np.ndarray) -> np.ndarray:
        """A batch of requests."""
        logits: NDArray[np.float32] = self._run(x.astype(np.float32))
        return logits
