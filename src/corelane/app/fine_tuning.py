"""Fine-tuning: a run that starts from a package takes its pipeline, its network and its weights over.

`app/training.py` asks for each where it would otherwise fit, construct or initialise its own. What a run has begun with
is in the run: it goes on when the package is gone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from corelane.app.config import RootConfig, load_root
from corelane.app.runs import CONFIG_NAME, open_run_data
from corelane.core.errors import BundleError, ConfigError
from corelane.data.pipeline import Pipeline
from corelane.model.config import AUTO, BUILT_IN, ModelConfig
from corelane.model.nets.build import build, number_places
from corelane.model.package import ModelPackage
from corelane.store.bundle import verify_bundle
from corelane.train.checkpoint import KIND
from corelane.train.freezing import names_fitting
from corelane.train.retention import saved_steps


def with_start(root: RootConfig, begun: Path | None = None) -> RootConfig:
    """`root` with the network of the package it starts from, so that its configuration says what is trained.

    A run that has `begun` says that itself. Raises `ConfigError` when `model` is given and names another network,
    `BundleError` when the package is damaged.
    """
    if root.train.fine_tune is None:
        return root
    if begun is not None:
        return _with_network(root, load_root(begun / CONFIG_NAME).model, str(begun))
    package = ModelPackage.load(Path(root.train.fine_tune.package))
    if (
        package.architecture["net"] == "custom"
    ):  # the package does not say which: `model.net` must, and weights must fit
        return root
    model = ModelConfig(net=package.architecture["net"], **package.architecture["options"])
    return _with_network(root, model, str(package.path))


def _with_network(root: RootConfig, model: ModelConfig, source: str) -> RootConfig:
    if root.model not in (model, ModelConfig(), ModelConfig(net=AUTO)):
        raise ConfigError(
            f"model must be left out to fine-tune {source}, or be its network {model.net}, got {root.model.net}; "
            "remove the model section"
        )
    return root.model_copy(update={"model": model})


def pipeline_of_start(root: RootConfig, directory: Path) -> Pipeline | None:
    """The fitted pipeline to prepare the data with, the run's own where it has begun; None where it fits one."""
    start = root.train.fine_tune
    if start is None:
        return None
    if (directory / "data").is_dir():
        return open_run_data(directory).pipeline
    return _trained_pipeline(ModelPackage.load(Path(start.package)))


def load_start(module: nn.Module, root: RootConfig, pipeline: Pipeline, directory: Path) -> list[str]:
    """Put the package's weights into `module`, but for those to be reset; return the names of those that start anew.

    Where the package is gone, a checkpoint in the run's `directory` does. Raises `ConfigError` when a weight does not
    fit, a name to reset is none of the network's, or the labels are others and the output layer is not reset.
    """
    start = root.train.fine_tune
    if start is None or (not Path(start.package).exists() and _has_checkpoint(directory)):
        return []
    package = ModelPackage.load(Path(start.package))
    own = module.state_dict()
    anew = names_fitting(start.reset, own, "train.fine_tune.reset")
    if _trained_pipeline(package).target.labels != pipeline.target.labels:
        missing = [name for name in _output_names(module, root, pipeline) if name not in anew]
        if missing:
            raise ConfigError(
                f"train.fine_tune.reset must name the output layer, got {start.reset or 'nothing'}, and the data's "
                f"labels are not those of {package.path}; add its parameters, {', '.join(missing)}"
            )
    _load(own, package, anew)
    return [name for name in own if name in anew]


def _trained_pipeline(package: ModelPackage) -> Pipeline:
    if not isinstance(package.pipeline, Pipeline):
        raise ConfigError(
            f"train.fine_tune.package must be a package that was trained here, got {package.path}, which was imported"
        )
    return package.pipeline


def _has_checkpoint(directory: Path) -> bool:
    """Whether a whole checkpoint is there to go on from; without one a run begins again, and needs its start."""
    for step in reversed(saved_steps(directory / "checkpoints")):
        try:
            verify_bundle(directory / "checkpoints" / str(step), KIND)
        except BundleError:
            continue
        return True
    return False


def _output_names(module: nn.Module, root: RootConfig, pipeline: Pipeline) -> list[str]:
    """The parameters whose shape depends on how many outputs there are; the last layer's of a network of one's own."""
    own = {name: tensor.shape for name, tensor in module.named_parameters()}
    if root.model.net in BUILT_IN:
        target, numbers = pipeline.target, number_places(pipeline.feature_spans)
        num_outputs = target.num_outputs + 1
        wider = build(root.model, pipeline.outputs, num_outputs, seed=0, task=target.task, numbers=numbers)
        shapes = {name: tensor.shape for name, tensor in wider.named_parameters()}
        if type(wider) is type(module) and shapes.keys() == own.keys():
            return [name for name in own if own[name] != shapes[name]]
    layer = list(own)[-1].rpartition(".")[0]
    return [name for name in own if name.rpartition(".")[0] == layer]


def _load(own: dict[str, torch.Tensor], package: ModelPackage, anew: set[str]) -> None:
    saved = package.weights()
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
