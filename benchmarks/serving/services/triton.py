"""Triton through pytriton: its Python backend, batches of 32 rows, 2 ms to fill one."""

from __future__ import annotations

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.serving.endpoint import HOST
from benchmarks.serving.session import opened

NAME, NUM_FEATURES, NUM_CLASSES = "benchmark", 32, 10


def main(port: str) -> None:
    """Serve until stopped."""
    run = opened()

    @batch
    def infer(features: np.ndarray) -> list[np.ndarray]:
        return [run(features)]

    config = TritonConfig(http_address=HOST, http_port=int(port), allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=NAME,
            infer_func=infer,
            inputs=[Tensor(name="features", dtype=np.float32, shape=(NUM_FEATURES,))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(NUM_CLASSES,))],
            config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher(max_queue_delay_microseconds=2000)),
        )
        triton.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
