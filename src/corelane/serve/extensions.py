"""Triton's extensions of the Open Inference Protocol over HTTP: a model's configuration, statistics, what is served.

Clients and load generators that were written for Triton ask for these. Statistics are read off the merged metrics, so
that they are those of all workers. The sources are Triton's extension_model_configuration.md, extension_statistics.md
and extension_model_repository.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from corelane.core.types import JsonObject
from corelane.model.package import ModelPackage
from corelane.model.signature import TensorMeta

PLATFORM = "onnx_onnxruntime"
CONFIGURATION, STATISTICS, REPOSITORY = "model_configuration", "statistics", "model_repository"
READY, UNAVAILABLE, LOADING = "READY", "UNAVAILABLE", "LOADING"
_REQUESTS, _LATENCY = "corelane_inference_requests_total", "corelane_inference_latency_seconds_sum"
_ROWS, _BATCHES = "corelane_inference_batch_rows_sum", "corelane_inference_batch_rows_count"
_COMPUTE = "corelane_inference_compute_seconds_sum"
_WANTED = frozenset({_REQUESTS, _LATENCY, _ROWS, _BATCHES, _COMPUTE})
_NOTHING = {"count": 0, "ns": 0}


def configuration(model: ModelPackage, batch_size: int) -> JsonObject:
    """What Triton would call the model's configuration: shapes without the rows, of which a run takes `batch_size`."""
    signature = model.signature
    inputs = [signature.matrix] if signature.matrix is not None else list(signature.inputs)
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": batch_size,
        "input": [_end(tensor) for tensor in inputs],
        "output": [_end(tensor) for tensor in signature.outputs],
    }


@dataclass(frozen=True, slots=True)
class Listed:
    """A version of a model as the repository's index tells of it; `reason` says why it is not ready."""

    name: str
    version: int
    state: str = READY
    reason: str = ""


def repository_index(models: Iterable[Listed], *, is_ready_only: bool) -> list[JsonObject]:
    """The models; of those that are not ready, none where only ready ones are asked for."""
    return [
        {"name": model.name, "version": str(model.version), "state": model.state, "reason": model.reason}
        for model in models
        if model.state == READY or not is_ready_only
    ]


def statistics(models: Iterable[ModelPackage], exposition: bytes) -> JsonObject:
    """Counts and sums of each model, of all workers, since the server began. What is not measured is 0."""
    seen = _sums(exposition)
    return {"model_stats": [_of_model(model, seen[model.name]) for model in models]}


def _of_model(model: ModelPackage, sums: Mapping[str, float]) -> JsonObject:
    rows, batches = int(sums[_ROWS]), int(sums[_BATCHES])
    compute_ns = round(sums[_COMPUTE] * 1e9)
    return {
        "name": model.name,
        "version": str(model.version),
        "last_inference": 0,
        "inference_count": rows,
        "execution_count": batches,
        "inference_stats": {
            "success": {"count": int(sums["succeeded"]), "ns": round(sums[_LATENCY] * 1e9)},
            "fail": {"count": int(sums["failed"]), "ns": 0},
            "queue": _NOTHING,
            "compute_input": _NOTHING,
            "compute_infer": {"count": batches, "ns": compute_ns},
            "compute_output": _NOTHING,
        },
        "batch_stats": [],
    }


def _sums(exposition: bytes) -> defaultdict[str, defaultdict[str, float]]:
    """What the metrics say of each model, by their names; requests by whether they were answered with success."""
    found: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            if sample.name not in _WANTED:
                continue
            name = sample.name
            if name == _REQUESTS:
                name = "succeeded" if sample.labels["status"].startswith("2") else "failed"
            found[sample.labels["model"]][name] += sample.value
    return found


def _end(tensor: TensorMeta) -> JsonObject:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{kind}", "dims": list(tensor.shape[1:]) or [1]}
