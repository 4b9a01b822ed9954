"""MLServer: a runtime of one's own, batches of 32 rows, 2 ms to fill one."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving.session import opened


class Network(MLModel):
    """Rows in the Open Inference Protocol."""

    async def load(self) -> bool:
        """Open the graph."""
        self._run = opened()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A batch of requests, joined by the server."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        output = NumpyCodec.encode_output("y", self._run(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
