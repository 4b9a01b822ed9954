"""What people write first: FastAPI, a pydantic model and a sync endpoint, under uvicorn with uvloop and httptools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.endpoint import HOST, Endpoint, plain_body, plain_label

CASES = ("mlp-json-c32", "mlp-json-c1-p50")


def endpoint(python: str, graph: Path, row: Sequence[float]) -> Endpoint:
    """One uvicorn worker, no access log, no batching."""

    def command(port: int) -> list[str]:
        return [python, "-m", "benchmarks.serving.peers.fastapi", str(graph), str(port)]

    return Endpoint("/predict", plain_body(row), plain_label, command)


def main(graph: str, port: str) -> None:
    """Serve until stopped."""
    import numpy as np
    import onnxruntime
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    class Rows(BaseModel):
        x: list[list[float]]

    app = FastAPI()

    def predict(rows: Rows) -> dict[str, list[list[float]]]:
        (logits,) = session.run(None, {name: np.asarray(rows.x, np.float32)})
        return {"y": logits.tolist()}

    # The annotation is a string naming a class of this function: FastAPI is handed the class itself.
    predict.__annotations__["rows"] = Rows
    app.post("/predict")(predict)
    uvicorn.run(app, host=HOST, port=int(port), access_log=False, log_level="warning", loop="uvloop", http="httptools")


if __name__ == "__main__":
    main(*sys.argv[1:])
