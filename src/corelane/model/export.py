"""From a trained module to what a package holds: an ONNX graph without traces of its making, weights, and all the rest.

Imports torch and, inside the exporter, onnx. `app` calls `package_contents` and hands the result to `write_package`.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.core.types import Array
from corelane.data.batch import Fingerprint
from corelane.data.pipeline import Pipeline, TensorSpec
from corelane.model.config import ModelConfig
from corelane.model.decode import decoder_of
from corelane.model.description import Provenance
from corelane.model.golden import Golden
from corelane.model.graph_bytes import stripped
from corelane.model.nets.build import describe_for, example_of
from corelane.model.package import PackageContents
from corelane.model.predictor import Predictor
from corelane.model.runtimes.base import LOGITS
from corelane.model.runtimes.torch import TorchRuntime
from corelane.model.skew import Tolerance

Export: TypeAlias = Callable[[nn.Module, Mapping[str, TensorSpec]], bytes]
"""From a trained module and its inputs to an ONNX file, as `export_graph`."""


class TrainedOn(Protocol):
    """What a package takes over from prepared data: the fitted pipeline, the identity of the rows, samples of them.

    The tables hold checked raw rows, feature columns and target.
    """

    @property
    def pipeline(self) -> Pipeline:
        """Fitted on the training part."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the source the rows came from."""
        ...

    @property
    def calibration(self) -> pa.Table:
        """Rows of the training part."""
        ...

    @property
    def holdout(self) -> pa.Table:
        """Rows of the validation part."""
        ...

    @property
    def gate(self) -> pa.Table:
        """Rows held out from training, for the skew gate and the golden rows."""
        ...


def package_contents(
    module: nn.Module,
    data: TrainedOn,
    *,
    name: str,
    config: ModelConfig,
    metrics: Mapping[str, float],
    config_digest: str,
    created_s: float,
    include_rows: bool = True,
    export: Export | None = None,
) -> PackageContents:
    """Everything `write_package` needs for `module`, trained on `data`; golden answers come from torch.

    `created_s` is seconds since the Unix epoch, `config_digest` that of the resolved configuration; `export` may give
    the graph in place of `export_graph`. Raises
    `ConfigError` when the module cannot be exported.
    """
    pipeline = data.pipeline
    fingerprint = {"strength": data.fingerprint.strength, "digest": data.fingerprint.digest}
    return PackageContents(
        name=name,
        pipeline=pipeline,
        architecture=describe_for(config, module, pipeline),
        weights=weights_of(module),
        graphs={"fp32": (export or export_graph)(module, pipeline.outputs)},
        tolerances={"fp32": Tolerance.fp32(pipeline.target)},
        metrics=metrics,
        provenance=provenance(fingerprint, config_digest, created_s),
        golden=Golden.of(reference_predictor(module, data), data.gate) if include_rows else None,
        calibration=data.calibration if include_rows else None,
        holdout=data.holdout if include_rows else None,
    )


def reference_predictor(module: nn.Module, data: TrainedOn, *, num_threads: int = 1) -> Predictor:
    """The training path itself, against which a package is judged: `predict_table` is the columns way, then torch."""
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
    """`module` in evaluation mode as an ONNX file, its inputs named as in `inputs`, its one output `logits`.

    The number of rows is free. `module` itself is untouched. Raises `ConfigError` when torch
    cannot trace it that way.
    """
    # A copy in plain layout: the exporter would write channels_last weights out with transpositions around them.
    plain = copy.deepcopy(module).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return stripped(traced(plain, dict(zip(inputs, example_of(inputs), strict=True)), [LOGITS]))


def traced(
    module: nn.Module,
    example: Mapping[str, torch.Tensor],
    output_names: Sequence[str],
    free: Mapping[str, Sequence[int]] = MappingProxyType({}),
    *,
    by_name: bool = False,
) -> Any:
    """`module` in evaluation mode as an ONNX model that takes `example` [n, ...] by name, in that order.

    With `by_name` the tensors are given to its forward by their names instead of in that order. The number of rows is
    free, and so are the axes that `free` names by input. Raises `ConfigError` when torch cannot trace it that way.
    """
    network = _Positional(module, list(example) if by_name else None).eval()
    axes = [dict.fromkeys((0, *free.get(name, ())), torch.export.Dim.DYNAMIC) for name in example]
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                tuple(example.values()),
                dynamo=True,
                dynamic_shapes=(tuple(axes),),
                input_names=list(example),
                output_names=list(output_names),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ConfigError(
            f"the network {type(module).__name__} must be one that torch.export can trace for any number of rows, "
            f"got {type(error.__cause__ or error).__name__}; avoid branches on values and fixed batch sizes in forward",
            detail=str(error),
        ) from error
    if program is None:
        raise ConfigError(f"the network {type(module).__name__} must be exportable, got no graph; change its forward")
    return program.model_proto


class _Positional(nn.Module):
    """Gives every network the one signature that the exporter's shapes are written for: any number of tensors, which
    the network gets under `names`, or in their order.
    """

    def __init__(self, network: nn.Module, names: Sequence[str] | None) -> None:
        super().__init__()
        self.network = network
        self._names = names

    def forward(self, *inputs: torch.Tensor) -> Any:
        if self._names is None:
            return self.network(*inputs)
        return self.network(**dict(zip(self._names, inputs, strict=True)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk about itself (torchvision is absent, an API will change) from the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
