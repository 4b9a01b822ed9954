"""From a trained module to what a package holds: an ONNX graph without traces of its making, weights, and all the rest.

Imports torch and, inside the exporter, onnx. `app` calls `package_contents` and hands the result to `write_package`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.core.types import Array
from corelane.data.pipeline import TensorSpec
from corelane.data.prepare import PreparedData
from corelane.model.config import ModelConfig
from corelane.model.decode import decoder_of, num_outputs_of
from corelane.model.description import Provenance
from corelane.model.golden import Golden
from corelane.model.nets.build import describe, example_of
from corelane.model.package import PackageContents
from corelane.model.predictor import Predictor
from corelane.model.runtimes.base import LOGITS
from corelane.model.runtimes.torch import TorchRuntime
from corelane.model.skew import Tolerance

PRODUCER = "corelane"


def package_contents(
    module: nn.Module,
    data: PreparedData,
    *,
    name: str,
    config: ModelConfig,
    metrics: Mapping[str, float],
    config_digest: str,
    created_s: float,
    include_rows: bool = True,
) -> PackageContents:
    """Everything `write_package` needs for `module`, trained on `data`; golden answers come from torch.

    `created_s` is seconds since the Unix epoch, `config_digest` that of the resolved configuration. Raises `ConfigError`
    when the module cannot be exported.
    """
    pipeline = data.pipeline
    fingerprint = {"strength": data.fingerprint.strength, "digest": data.fingerprint.digest}
    return PackageContents(
        name=name,
        pipeline=pipeline,
        architecture=describe(config, module, pipeline.outputs, num_outputs_of(pipeline.target)),
        weights=weights_of(module),
        graphs={"fp32": export_graph(module, pipeline.outputs)},
        tolerances={"fp32": Tolerance.fp32(pipeline)},
        metrics=metrics,
        provenance=provenance(fingerprint, config_digest, created_s),
        golden=Golden.of(reference_predictor(module, data), data.gate) if include_rows else None,
        calibration=data.calibration if include_rows else None,
        holdout=data.holdout if include_rows else None,
    )


def reference_predictor(module: nn.Module, data: PreparedData, *, num_threads: int = 1) -> Predictor:
    """The training path's own predictor, against which a package is judged: its `predict_table` is columns way and torch."""
    return Predictor(data.pipeline, decoder_of(data.pipeline.target), TorchRuntime(module, num_threads=num_threads))


def provenance(fingerprint: Mapping[str, Any], config_digest: str, created_s: float) -> Provenance:
    """Library versions of this process with what the caller knows."""
    return Provenance(
        corelane=version("corelane"),
        torch=torch.__version__,
        onnx=version("onnx"),
        data_fingerprint=dict(fingerprint),
        config_digest=config_digest,
        created=datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def weights_of(module: nn.Module) -> dict[str, Array]:
    """Parameters and buffers by name, contiguous copies on the CPU."""
    return {name: tensor.detach().contiguous().numpy().copy() for name, tensor in module.state_dict().items()}


def export_graph(module: nn.Module, inputs: Mapping[str, TensorSpec]) -> bytes:
    """`module` in evaluation mode as an ONNX file: any number of rows, float32, inputs named as in `inputs`, output `logits`.

    `module` itself is untouched. Raises `ConfigError` when torch cannot trace it with any number of rows.
    """
    # A copy in plain layout: the exporter would write channels_last weights out with transpositions around them.
    module = copy.deepcopy(module).eval().to(memory_format=torch.contiguous_format)
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    try:
        program = torch.onnx.export(
            module,
            example_of(inputs),
            dynamo=True,
            dynamic_shapes=_nested(module, shapes),
            input_names=list(inputs),
            output_names=[LOGITS],
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConfigError(
            f"the network {type(module).__name__} must be one that torch.export can trace for any number of rows, got "
            f"{type(error.__cause__ or error).__name__}; avoid Python branches on values and fixed batch sizes in its forward",
            detail=str(error),
        ) from error
    return _stripped(program.model_proto)
