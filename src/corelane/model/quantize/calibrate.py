"""Which way of taking ranges from calibration rows suits a network: each is tried, the least error wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from corelane.core.errors import ConfigError
from corelane.core.types import NamedArrays
from corelane.model.quantize.logits import error_of, logits_of
from corelane.model.runtimes.onnx.quantizer import Method, Quantizer

METHODS: tuple[Method, ...] = get_args(Method)
MIN_GAIN = 0.98  # a later method must lower the error by 2 %: below that the rows decide, not the method


class Calibrated(NamedTuple):
    """A quantiser and the method that made it, with the error of each method's int8 graph (`logits.error_of`)."""

    quantizer: Quantizer
    method: Method
    errors: dict[Method, float]


def calibrate(graph: bytes, batches: Sequence[NamedArrays]) -> Calibrated:
    """The quantiser of `graph` whose ranges, taken from `batches` of its inputs, keep its answers closest.

    Ranges are taken from all batches but the last and judged on that one, which they have not seen; where there is one
    batch only, on that. Raises `ConfigError` when there is none.
    """
    if not batches:
        raise ConfigError("calibration must have at least one row, got none; package with rows, or give --data")
    seen, judged = batches[: max(len(batches) - 1, 1)], batches[-1:]
    exact = logits_of(graph, judged)
    quantizers = {method: Quantizer(graph, seen, method=method) for method in METHODS}
    errors = {method: error_of(quantizers[method].quantized(), judged, exact) for method in METHODS}
    method = next(method for method in METHODS if MIN_GAIN * errors[method] <= min(errors.values()))
    return Calibrated(quantizers[method], method, errors)
