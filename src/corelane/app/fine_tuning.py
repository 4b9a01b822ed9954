"""Fine-tuning: a run that starts from a package takes its pipeline, its network and its weights over.

`app/training.py` asks for each where it would otherwise fit, construct or initialise its own.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from corelane.app.config import RootConfig
from corelane.core.errors import ConfigError
from corelane.data.pipeline import Pipeline
from corelane.model.config import ModelConfig
from corelane.model.package import ModelPackage
from corelane.train.config import FineTuneConfig


def with_start(root: RootConfig) -> RootConfig:
    """`root` with the network of the package it starts from, so that its configuration says what is trained.

    Raises `ConfigError` when `model` is given and names another network, `BundleError` when the package is damaged.
    """
    if root.train.fine_tune is None:
        return root
    package = ModelPackage.load(Path(root.train.fine_tune.package))
    if (
        package.architecture["net"] == "custom"
    ):  # the package does not say which: `model.net` must, and weights must fit
        return root
    model = ModelConfig(net=package.architecture["net"], **package.architecture["options"])
    if root.model not in (model, ModelConfig()):
        raise ConfigError(
            f"model must be left out to fine-tune {package.path}, or be its network {model.net}, got {root.model.net}; "
            "remove the model section"
        )
    return root.model_copy(update={"model": model})


def pipeline_of_start(root: RootConfig) -> Pipeline | None:
    """The fitted pipeline to prepare the data with; None where the run fits its own."""
    start = root.train.fine_tune
    return None if start is None else ModelPackage.load(Path(start.package)).pipeline


def load_start(module: nn.Module, root: RootConfig, pipeline: Pipeline) -> list[str]:
    """Put the package's weights into `module`, but for those to be reset; return the names of those that start anew.

    Raises `ConfigError` when a weight does not fit, or when the labels are others and nothing is reset.
    """
    start = root.train.fine_tune
    if start is None:
        return []
    package = ModelPackage.load(Path(start.package))
    if package.pipeline.target.labels != pipeline.target.labels and not start.reset:
        raise ConfigError(
            f"train.fine_tune.reset must name the output layer, got nothing, and the data's labels are not those of "
            f"{package.path}; add its parameters, such as {list(module.state_dict())[-1].rpartition('.')[0]}.*"
        )
    return _load(module, package, start)


def _load(module: nn.Module, package: ModelPackage, start: FineTuneConfig) -> list[str]:
    own, saved = module.state_dict(), package.weights()
    anew = [name for name in own if any(fnmatchcase(name, pattern) for pattern in start.reset)]
    for name, tensor in own.items():
        if name in anew:
            continue
        got = tuple(saved[name].shape) if name in saved else None
        if got != tuple(tensor.shape):
            raise ConfigError(
                f"the weight {name!r} must be {tuple(tensor.shape)} in {package.path}, got {got or 'none'}; "
                "name it in train.fine_tune.reset, or train the package's network"
            )
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(saved[name]))
    return anew
