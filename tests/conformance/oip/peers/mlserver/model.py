"""A model of MLServer for the kit to ask: the sum of each row. See docs/conformance.md."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class RowSums(MLModel):
    """Rows FP64 [n, 4] to `sums` FP64 [n, 1]."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        sums = NumpyCodec.encode_output("sums", rows.sum(axis=1, keepdims=True))
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=[sums])
