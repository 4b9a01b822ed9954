"""One run of a batch: its rows joined, put through the model, and shared out again; what fails does so alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from corelane.core.clock import Clock
from corelane.core.errors import RequestError
from corelane.core.types import Array, NamedArrays
from corelane.machine.memory import MemoryManager
from corelane.observe.meters import BatchMeter
from corelane.serve.batch import BatchBuffers, split
from corelane.serve.request import Inputs, Request, Response
from corelane.serve.ways import Way

Results: TypeAlias = list[Response | BaseException]
"""One for each request of a run, in their order."""


class BatchComputer:
    """Owns the buffers that requests are joined in, and nothing else. Safe to call from as many threads as `allow` was
    told, and one more.
    """

    def __init__(self, memory: MemoryManager, batch_size: int, meter: BatchMeter, clock: Clock) -> None:
        self._memory = memory
        self._batch_size = batch_size
        self._meter = meter
        self._monotonic = clock.monotonic
        self._buffers: list[BatchBuffers] = []  # those that no run uses now

    def allow(self, num_runs: int) -> None:
        """Have buffers for so many runs at a time, and for one more on the event loop's thread."""
        missing = num_runs + 1 - len(self._buffers)
        self._buffers += [BatchBuffers(self._memory, self._batch_size) for _ in range(missing)]

    def compute(self, requests: Sequence[Request], way: Way) -> Results:
        """One run for all; if it fails, one run each, so that a request that cannot be computed fails alone."""
        if len(requests) == 1:
            return [self._compute_one(requests[0], way)]
        start_s = self._monotonic()
        buffers = self._buffers.pop()
        try:
            outputs = _predicted(buffers.join(requests), way)
        except Exception:  # noqa: BLE001 - which of them is at fault, and how, the single runs tell
            return [self._compute_one(request, way) for request in requests]
        finally:
            self._buffers.append(buffers)
        self._meter.ran(sum([request.num_rows for request in requests]), self._monotonic() - start_s)
        return split(outputs, requests)  # type: ignore[return-value]

    def _compute_one(self, request: Request, way: Way) -> Response | BaseException:
        start_s = self._monotonic()
        try:
            outputs = _predicted(request.inputs, way)
        except Exception as error:  # noqa: BLE001 - whatever the model raises is this request's answer
            return error
        self._meter.ran(request.num_rows, self._monotonic() - start_s)
        return Response(request, outputs)

    def close(self) -> None:
        """Give the buffers back. May be called twice."""
        for buffers in self._buffers:
            buffers.close()


def _predicted(inputs: Inputs, way: Way) -> NamedArrays:
    if isinstance(inputs, np.ndarray):
        outputs = way.predictor.predict_matrix(inputs)
    else:
        outputs = way.predictor.predict_columns(inputs)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not _is_finite(array):
            raise RequestError(
                f"the output {name!r} must be finite, got NaN or infinity; the input values are too large"
            )
    return outputs


def _is_finite(array: Array) -> bool:
    """Whether all of `array` is finite. The dot product settles nearly every case in a third of the time."""
    flat = array.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(array).all())
