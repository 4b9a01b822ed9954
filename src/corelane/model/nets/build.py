"""From configuration to network: Corelane's own by name, a user's by import path, both checked before step 0.

Called by `app` for training and by the torch runtime for packages. A user's module is imported for training only;
packages hold its graph, never its import path. Initial weights are a pure function of the seed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject, NamedArrays, StatedTask
from corelane.data.pipeline import FeatureSpan, Pipeline, TensorSpec
from corelane.data.prepared import PreparedPart
from corelane.model.choose import resolved
from corelane.model.config import BUILT_IN, ModelConfig
from corelane.model.modes import evaluating
from corelane.model.nets.cnn import CNN
from corelane.model.nets.gru import GRU
from corelane.model.nets.mlp import MLP
from corelane.model.nets.resnet import ResNet
from corelane.model.nets.tabm import COMBINE, SAMPLE_BYTES, SAMPLE_ROWS, TabM
from corelane.model.nets.transformer import Transformer
from corelane.model.torch_threads import torch_threads


def build(
    config: ModelConfig,
    inputs: Mapping[str, TensorSpec],
    num_outputs: int,
    *,
    seed: int,
    task: StatedTask = "classification",
    numbers: Sequence[int] = (),
) -> nn.Module:
    """The network of `config` for the pipeline's `inputs`, its weights drawn from `seed`.

    `module(*tensors)`, tensors in the order of `inputs`, gives logits [n, num_outputs]; in training mode an ensemble
    gives those of its members, [n, members, num_outputs]. `task` says how members are joined, `numbers` which places of
    the first input are scaled numbers. Raises `ConfigError` when the network cannot take these inputs, or a user's
    class cannot be imported, constructed or does not give that shape. torch's own generator is left alone.
    """
    config = resolved(config, inputs)
    with torch.random.fork_rng(devices=[]), torch_threads(1):
        torch.manual_seed(seed)
        module = _construct(config, inputs, num_outputs, task, numbers)
        check_module(module, inputs, num_outputs)
    return module


def build_for(config: ModelConfig, pipeline: Pipeline, *, seed: int) -> nn.Module:
    """`build` for what a fitted `pipeline` gives and its target needs."""
    return build(
        config,
        pipeline.outputs,
        pipeline.target.num_outputs,
        seed=seed,
        task=pipeline.target.task,
        numbers=number_places(pipeline.feature_spans),
    )


def number_places(spans: Sequence[FeatureSpan]) -> tuple[int, ...]:
    """The places of "features" that hold scaled numbers."""
    return tuple(place for span in spans if span.is_numeric for place in range(span.start, span.stop))


def fit_inputs(module: nn.Module, part: PreparedPart) -> None:
    """Show `module`, if it asks for that by a method `fit_inputs`, evenly spaced rows of the training part."""
    if isinstance(module, FitsInputs):
        num_rows = min(part.num_rows, SAMPLE_ROWS, max(1, SAMPLE_BYTES // part.row_bytes))
        rows = np.linspace(0, part.num_rows - 1, num_rows).astype(np.int64)
        module.fit_inputs({name: np.asarray(array[rows]) for name, array in part.inputs.items()})


@runtime_checkable
class FitsInputs(Protocol):
    """A network that must see inputs before it is trained."""

    def fit_inputs(self, sample: NamedArrays) -> None:
        """Take what it needs from rows of the training part, [m, ...] by input, into its buffers."""
        ...


def check_module(module: nn.Module, inputs: Mapping[str, TensorSpec], num_outputs: int) -> None:
    """Run two rows of zeros through `module`; `ConfigError` unless it gives float [2, num_outputs].

    For a module handed over as an object; `build` has done it for what it returns. The modes of its parts
    stay as they were.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"the network must be a torch.nn.Module, got {type(module).__name__}; derive it from one")
    try:
        with evaluating(module), torch.no_grad(), torch_threads(1):
            output = module(*example_of(inputs))
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        shapes = {name: list(spec.shape) for name, spec in inputs.items()}
        raise ConfigError(
            f"the network {type(module).__name__} must take the pipeline's tensors {shapes}, got "
            f"{type(error).__name__}: {error}; make its forward take them in this order"
        ) from error
    if not isinstance(output, torch.Tensor) or output.shape != (2, num_outputs) or not output.is_floating_point():
        got = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(
            f"the network {type(module).__name__} must give logits of shape [rows, {num_outputs}], "
            f"got {got} for 2 rows; change its last layer (two labels take one output, with data.task: multi_class two)"
        )


def example_of(inputs: Mapping[str, TensorSpec], num_rows: int = 2) -> tuple[torch.Tensor, ...]:
    """Zeros of the pipeline's shapes and types, `num_rows` rows."""
    return tuple(torch.from_numpy(np.zeros((num_rows, *spec.shape), dtype=spec.dtype)) for spec in inputs.values())


def describe(
    config: ModelConfig,
    module: nn.Module,
    inputs: Mapping[str, TensorSpec],
    num_outputs: int,
    *,
    task: StatedTask = "classification",
    numbers: Sequence[int] = (),
) -> JsonObject:
    """The architecture as JSON for package.json: what `build_described` needs.

    A network that is not one of Corelane's is called `custom`: packages name no import path.
    """
    described: JsonObject = {
        "net": "custom",
        "inputs": {name: list(spec.shape) for name, spec in inputs.items()},
        "num_outputs": num_outputs,
        "num_parameters": sum(parameter.numel() for parameter in module.parameters()),
    }
    if type(module) not in _CLASSES.values():
        return described
    config = resolved(config, inputs)
    options = _settled_options(config, len(numbers))
    described |= {"net": config.net, "options": options, "task": task, "numbers": list(numbers)}
    vocabularies = {name: spec.vocabulary for name, spec in inputs.items() if spec.vocabulary is not None}
    return described | ({"vocabularies": vocabularies} if vocabularies else {})


def _settled_options(config: ModelConfig, num_numbers: int) -> JsonObject:
    """What the network reads of `config`, its defaults written out: those of a later version may be others."""
    options = config.model_dump(mode="json", include=set(BUILT_IN[config.net]) - {"preset"})
    settled: Mapping[str, Callable[[], Any]] = {
        "hidden": lambda: list(config.widths),
        "channels": lambda: list(config.depths),
        "width": lambda: config.num_features,
        "layers": lambda: config.num_layers,
        "embedding": lambda: config.embedding_for(num_numbers),
    }
    return options | {name: value() for name, value in settled.items() if name in options}


def describe_for(config: ModelConfig, module: nn.Module, pipeline: Pipeline) -> JsonObject:
    """`describe` for a `module` that was trained behind `pipeline`."""
    target = pipeline.target
    numbers = number_places(pipeline.feature_spans)
    return describe(config, module, pipeline.outputs, target.num_outputs, task=target.task, numbers=numbers)


def build_described(architecture: JsonObject) -> nn.Module:
    """The network that `describe` described, with weights that are yet to be loaded. Raises `ConfigError`."""
    config = ModelConfig(net=architecture["net"], **architecture["options"])
    inputs = described_inputs(architecture)
    # Packages of earlier versions, whose networks need neither, do not say them.
    task, numbers = architecture.get("task", "classification"), architecture.get("numbers", [])
    return build(config, inputs, architecture["num_outputs"], seed=0, task=task, numbers=numbers)


def described_inputs(architecture: JsonObject) -> dict[str, TensorSpec]:
    """What the network that `describe` described takes, in its order."""
    vocabularies = architecture.get("vocabularies", {})
    return {
        name: TensorSpec("int64" if name in vocabularies else "float32", tuple(shape), vocabularies.get(name))
        for name, shape in architecture["inputs"].items()
    }


_CLASSES: Mapping[str, type[nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "tabm": TabM,
    "transformer": Transformer,
    "gru": GRU,
}


def _construct(
    config: ModelConfig, inputs: Mapping[str, TensorSpec], num_outputs: int, task: StatedTask, numbers: Sequence[int]
) -> nn.Module:
    match config.net:
        case "mlp":
            return MLP(_num_inputs(inputs), config.widths, num_outputs, dropout=config.dropout)
        case "cnn":
            return CNN(
                _image_shape(inputs, "cnn", len(config.depths)),
                config.depths,
                config.widths,
                num_outputs,
                dropout=config.dropout,
                batch_norm=config.batch_norm,
            )
        case "resnet":
            depth, _, _ = _image_shape(inputs, "resnet", len(config.depths) - 1)
            return ResNet(depth, config.depths, config.blocks, num_outputs, dropout=config.dropout)
        case "tabm":
            return TabM(
                _num_inputs(inputs),
                numbers,
                config.widths,
                num_outputs,
                num_members=config.members,
                embedding=config.embedding_for(len(numbers)),
                num_bins=config.bins,
                combine=COMBINE[task],
                dropout=config.dropout,
            )
        case "transformer":
            series = _series(inputs, "transformer")
            if config.mask_padding and series.vocabulary is None:
                raise ConfigError(
                    f"model.mask_padding must be left out where there are no tokens, got a series {list(series.shape)}"
                )
            return Transformer(
                series.shape[0],
                num_outputs,
                vocabulary=series.vocabulary,
                num_features=series.shape[-1],
                width=config.num_features,
                num_layers=config.num_layers,
                num_heads=config.heads,
                feed_forward=config.feed_forward,
                dropout=config.dropout,
                mask_padding=config.mask_padding,
            )
        case "gru":
            series = _series(inputs, "gru")
            return GRU(series.shape[-1], config.num_features, config.num_layers, num_outputs, dropout=config.dropout)
    return construct(config.net, config.arguments)


def _series(inputs: Mapping[str, TensorSpec], net: str) -> TensorSpec:
    """The one input of a network over positions: tokens [length] for a transformer, or a series [length, numbers]."""
    spec = next(iter(inputs.values()))
    takes_it = len(spec.shape) == 2 or (net == "transformer" and spec.vocabulary is not None)
    if len(inputs) != 1 or not takes_it:
        wanted = "one tensor of positions and numbers" + (", or tokens" if net == "transformer" else "")
        raise ConfigError(
            f"model.net {net} must get {wanted}, got { {name: list(spec.shape) for name, spec in inputs.items()} }; "
            "exclude the other columns, or declare a vocabulary for a column of tokens"
        )
    return spec


def _num_inputs(inputs: Mapping[str, TensorSpec]) -> int:
    return sum(math.prod(spec.shape) for spec in inputs.values())


def _image_shape(inputs: Mapping[str, TensorSpec], net: str, num_halvings: int) -> tuple[int, int, int]:
    shapes = {name: spec.shape for name, spec in inputs.items()}
    shape = next(iter(shapes.values()))
    if len(shapes) != 1 or len(shape) != 3:
        raise ConfigError(
            f"model.net {net} must get one image of channels, height and width, got {shapes}; use model.net mlp, "
            "exclude the other columns, or declare a tensor column's kind as image"
        )
    depth, height, width = shape
    if min(height, width) < 2**num_halvings:
        raise ConfigError(
            f"model.channels must halve images of {height} x {width} at most {int(math.log2(min(height, width)))} "
            f"times, got {num_halvings}; give fewer"
        )
    return depth, height, width


def construct(
    path: str, arguments: Mapping[str, Any], *, named_by: str = "model.net", given_by: str = "model.arguments"
) -> nn.Module:
    """A user's network by the import path `package.module:Class`, made with `arguments`.

    Raises `ConfigError`, which calls the path `named_by` and the arguments `given_by`, when it cannot be imported, is
    no `torch.nn.Module`, or does not take them.
    """
    module_name, _, class_name = path.partition(":")
    try:
        made_by = getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise ConfigError(
            f"{named_by} must name a module that can be imported, got {path!r} ({error}); check the name, "
            "and that its folder is on PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise ConfigError(
            f"{named_by} must name a class of {module_name}, got {class_name!r}; check the name"
        ) from error
    if not (isinstance(made_by, type) and issubclass(made_by, nn.Module)):
        raise ConfigError(
            f"{named_by} must name a torch.nn.Module class, got {path!r}, a {type(made_by).__name__}; name one"
        )
    try:
        return made_by(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{given_by} must fit {path}, got {dict(arguments)} ({error}); change them") from error
