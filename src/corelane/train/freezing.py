"""Freezing: parameters whose names fit a pattern keep their values, as when a trained network is tuned to new data.

A part of the network all of whose parameters are frozen stays in evaluation mode too: its batch norms keep their
statistics and its dropout passes everything on, else "frozen" layers would go on changing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn

from corelane.core.errors import ConfigError


def freeze(module: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters of `module` that fit one of `patterns` (`*`, `?`), such as `blocks.*`.

    Raises `ConfigError` for a pattern that no name fits, naming those there are.
    """
    parameters = dict(module.named_parameters())
    for name in names_fitting(patterns, parameters, "train.freeze"):
        parameters[name].requires_grad_(False)


def names_fitting(patterns: Sequence[str], names: Collection[str], setting: str) -> set[str]:
    """Those of `names` that fit one of the `patterns` of `setting`. Raises `ConfigError` as `freeze` does."""
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise ConfigError(
                f"{setting} must name parameters of the network, got {pattern!r}, which fits none of "
                f"{', '.join(sorted(names))}; change the pattern"
            )
        chosen |= found
    return chosen


def to_training_mode(module: nn.Module) -> None:
    """Put `module` in training mode, except its wholly frozen parts."""
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
