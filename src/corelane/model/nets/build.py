"""From configuration to network: Corelane's own by name, a user's by import path, both checked before step 0.

Called by `app` for training and by the torch runtime for packages. A user's module is imported for training only;
packages hold its graph, never its import path. Initial weights are a pure function of the seed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.data.pipeline import TensorSpec
from corelane.model.config import BUILT_IN, ModelConfig
from corelane.model.nets.cnn import CNN
from corelane.model.nets.mlp import MLP
from corelane.model.torch_threads import torch_threads


def build(config: ModelConfig, inputs: Mapping[str, TensorSpec], num_outputs: int, *, seed: int) -> nn.Module:
    """The network of `config` for the pipeline's `inputs`, its weights drawn from `seed`.

    `module(*tensors)`, tensors in the order of `inputs`, gives logits [n, num_outputs]. Raises `ConfigError` when the
    network cannot take these inputs, or a user's class cannot be imported, constructed or does not give that shape.
    torch's own generator is left alone.
    """
    with torch.random.fork_rng(devices=[]), torch_threads(1):
        torch.manual_seed(seed)
        module = _construct(config, inputs, num_outputs)
        check_module(module, inputs, num_outputs)
    return module


def check_module(module: nn.Module, inputs: Mapping[str, TensorSpec], num_outputs: int) -> None:
    """Run two rows of zeros through `module`; `ConfigError` unless it gives float [2, num_outputs].

    For a module handed over as an object; `build` has done it for what it returns. The module's mode stays as it was.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"the network must be a torch.nn.Module, got {type(module).__name__}; derive it from one")
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), torch_threads(1):
            output = module(*example_of(inputs))
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        shapes = {name: list(spec.shape) for name, spec in inputs.items()}
        raise ConfigError(
            f"the network {type(module).__name__} must take the pipeline's tensors {shapes}, got "
            f"{type(error).__name__}: {error}; make its forward take them in this order"
        ) from error
    finally:
        module.train(was_training)
    if not isinstance(output, torch.Tensor) or output.shape != (2, num_outputs) or not output.is_floating_point():
        got = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(
            f"the network {type(module).__name__} must give logits of shape [rows, {num_outputs}], "
            f"got {got} for 2 rows; change its last layer"
        )


def example_of(inputs: Mapping[str, TensorSpec], num_rows: int = 2) -> tuple[torch.Tensor, ...]:
    """Zeros of the pipeline's shapes, `num_rows` rows."""
    return tuple(torch.zeros((num_rows, *spec.shape), dtype=torch.float32) for spec in inputs.values())


def describe(config: ModelConfig, module: nn.Module, inputs: Mapping[str, TensorSpec], num_outputs: int) -> JsonObject:
    """The architecture as JSON for package.json. A user's network is called `custom`: packages name no import path."""
    described: JsonObject = {
        "net": "custom",
        "inputs": {name: list(spec.shape) for name, spec in inputs.items()},
        "num_outputs": num_outputs,
        "num_parameters": sum(parameter.numel() for parameter in module.parameters()),
    }
    if config.net in BUILT_IN:
        described |= {"net": config.net, "options": config.model_dump(mode="json", include=set(BUILT_IN[config.net]))}
    return described


def build_described(architecture: JsonObject) -> nn.Module:
    """The network that `describe` described, with weights that are yet to be loaded. Raises `ConfigError`."""
    config = ModelConfig(net=architecture["net"], **architecture["options"])
    inputs = {name: TensorSpec("float32", tuple(shape)) for name, shape in architecture["inputs"].items()}
    return build(config, inputs, architecture["num_outputs"], seed=0)


def _construct(config: ModelConfig, inputs: Mapping[str, TensorSpec], num_outputs: int) -> nn.Module:
    if config.net == "mlp":
        num_inputs = sum(math.prod(spec.shape) for spec in inputs.values())
        return MLP(num_inputs, config.widths, num_outputs, dropout=config.dropout)
    if config.net == "cnn":
        return CNN(
            _image_shape(inputs, len(config.channels)),
            config.channels,
            config.widths,
            num_outputs,
            dropout=config.dropout,
            batch_norm=config.batch_norm,
        )
    return _construct_users(config.net, config.arguments)


def _image_shape(inputs: Mapping[str, TensorSpec], num_blocks: int) -> tuple[int, int, int]:
    shapes = {name: spec.shape for name, spec in inputs.items()}
    shape = next(iter(shapes.values()))
    if len(shapes) != 1 or len(shape) != 3:
        raise ConfigError(
            f"model.net cnn must get one image of channels, height and width, got {shapes}; use model.net mlp, "
            "exclude the other columns, or declare a tensor column's kind as image"
        )
    depth, height, width = shape
    if min(height, width) < 2**num_blocks:
        raise ConfigError(
            f"model.channels must have at most {int(math.log2(min(height, width)))} entries for images of "
            f"{height} x {width}, each halves them, got {num_blocks}; give fewer"
        )
    return depth, height, width


def _construct_users(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    module_name, _, class_name = path.partition(":")
    try:
        made_by = getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise ConfigError(
            f"model.net must name a module that can be imported, got {path!r} ({error}); check the name, "
            "and that its folder is on PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise ConfigError(
            f"model.net must name a class of {module_name}, got {class_name!r}; check the name"
        ) from error
    if not (isinstance(made_by, type) and issubclass(made_by, nn.Module)):
        raise ConfigError(
            f"model.net must name a torch.nn.Module class, got {path!r}, a {type(made_by).__name__}; name one"
        )
    try:
        return made_by(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.arguments must fit {path}, got {dict(arguments)} ({error}); change them") from error
