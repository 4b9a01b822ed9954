"""A package's weights as the network they belong to, rebuilt from its description. Imports torch."""

from __future__ import annotations

import torch
from torch import nn

from corelane.core.errors import BundleError, ConfigError
from corelane.core.types import JsonObject, NamedArrays
from corelane.model.config import BUILT_IN
from corelane.model.nets.build import build_described


def described_module(architecture: JsonObject, weights: NamedArrays) -> nn.Module:
    """The network of `architecture`, as `describe` described it, with `weights` by name.

    Raises `ConfigError` for a network that is not one of Corelane's (a package holds no code), `BundleError` when the
    weights do not fit.
    """
    if architecture["net"] not in BUILT_IN:
        raise ConfigError(
            f"a package run by torch must hold a network of {sorted(BUILT_IN)}, got a user's own; use its ONNX graph"
        )
    module = build_described(architecture)
    try:
        module.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    except RuntimeError as error:
        raise BundleError(
            "weights.safetensors must fit package.json's architecture, got others; package the run again",
            detail=str(error),
        ) from error
    return module
