"""A user's `torch.nn.Module` by its import path, with its weights: as a graph, and as what the graph is held against.

Imports torch, and the user's code, which a package will not hold. Called by `app` for `corelane import-model`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model

from corelane.core.errors import ConfigError
from corelane.core.types import Array, NamedArrays
from corelane.data.schema import Column
from corelane.data.stages.column import FREE
from corelane.model.export import traced
from corelane.model.graph_bytes import rename_values
from corelane.model.modes import evaluating
from corelane.model.nets.build import construct

OUTPUT = "output"
"""Name of what a network gives that gives one tensor; of several that have no names: output_0, output_1..."""

BATCH_ROWS = 64


class ForeignModule:
    """Owns the network, in evaluation mode. Its inputs are the parameters of its `forward`, by their names."""

    def __init__(self, path: str, weights: Path, arguments: Mapping[str, Any]) -> None:
        """Import, construct, and load `weights` (safetensors). Raises `ConfigError`."""
        self._module = construct(path, arguments, named_by="the model", given_by="--argument")
        try:
            load_model(self._module, weights)  # which knows of weights that have two names
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ConfigError(
                f"--weights must be a safetensors file with each parameter of {path}, got {weights}: {reason}",
                detail=str(error),
            ) from error
        self._module.eval()
        self._path = path
        self._names: list[str] = []

    def inputs(self, columns: Sequence[str]) -> list[str]:
        """Those parameters of `forward` that must be given, and those others that are among `columns`.

        Raises `ConfigError` when one that must be given is not among them.
        """
        names = []
        for name, parameter in inspect.signature(self._module.forward).parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                continue
            if name in columns:
                names.append(name)
            elif parameter.default is parameter.empty:
                raise ConfigError(
                    f"--data must have a column for each input of {self._path}, got none for {name!r}; rename one"
                )
        if not names:
            raise ConfigError(f"the forward of {self._path} must name its inputs, got none; give it parameters")
        self._names = names
        return names

    def answers(self, rows: NamedArrays) -> dict[str, Array]:
        """What the network gives for `rows` [n, ...], by output name.

        Raises `ConfigError` when it does not take them.
        """
        num_rows = len(rows[self._names[0]])
        parts = [
            self._run({name: values[start : start + BATCH_ROWS] for name, values in rows.items()})
            for start in range(0, num_rows, BATCH_ROWS)
        ]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def graph(self, columns: Sequence[Column], rows: NamedArrays) -> bytes:
        """The network as an ONNX file, traced with the first of `rows`. Raises `ConfigError` when it cannot be."""
        # Two rows, of one twice: what has a length of one while it is traced is taken to have it always.
        example = {name: torch.from_numpy(rows[name].take([0, -1], axis=0)) for name in self._names}
        free = {
            column.name: [axis for axis, length in enumerate(column.shape, 1) if length == FREE] for column in columns
        }
        names = list(self._run({name: values.numpy() for name, values in example.items()}))
        if taken := sorted(set(names) & set(self._names)):
            raise ConfigError(f"an output of {self._path} must have another name than its inputs, got {taken[0]!r}")
        plain = {f"output.{index}": name for index, name in enumerate(names)}
        model = traced(self._module, example, list(plain), free, by_name=True)
        # What the exporter calls a value inside may be what the network calls an output.
        rename_values(model.graph, {name: f"{name}.inner" for name in names} | plain)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _run(self, rows: NamedArrays) -> dict[str, torch.Tensor]:
        tensors = {name: torch.from_numpy(rows[name].copy()) for name in self._names}
        try:
            with evaluating(self._module), torch.inference_mode():
                given = self._module(**tensors)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            shapes = {name: list(rows[name].shape) for name in self._names}
            raise ConfigError(
                f"{self._path} must take the rows of --data, {shapes}, got {type(error).__name__}: {error}"
            ) from error
        named = given if isinstance(given, Mapping) else _numbered(given)
        if not named or not all(isinstance(one, torch.Tensor) for one in named.values()):
            raise ConfigError(
                f"{self._path} must give a tensor, several, or a mapping of names to tensors, "
                f"got {type(given).__name__}"
            )
        return {str(name): one.contiguous() for name, one in named.items()}


def _numbered(given: Any) -> dict[str, Any]:
    if isinstance(given, tuple | list):
        return {f"{OUTPUT}_{index}": one for index, one in enumerate(given)}
    return {OUTPUT: given}
