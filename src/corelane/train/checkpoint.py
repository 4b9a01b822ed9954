"""One checkpoint on disk: the files of its bundle, written and read as data (safetensors and JSON, never pickle).

    model.safetensors      the module's parameters and buffers
    optimizer.safetensors  the tensors of the optimiser's state
    best.safetensors       the weights of the best epoch so far; absent before the first evaluation
    parts.safetensors      the tensors of whatever else has a state (averaged weights); absent where nothing has
    history.jsonl          metrics.jsonl up to this step
    state.json             everything else: counters, random generators, schedule, the shape of the optimiser's state

Which checkpoint is taken, and when, is decided in `state.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from corelane.core.errors import BundleError, DiskFullError, StateError
from corelane.core.types import Array, JsonObject
from corelane.store.bundle import verify_bundle, write_bundle
from corelane.train import skeleton

KIND = "checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Weights:
    """Parameters and buffers of a module by name: contiguous copies of its own, that share no memory."""

    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: torch.nn.Module) -> Weights:
        """The present weights of `module`. Raises `StateError` naming a state that is not a tensor."""
        return cls(packed(module.state_dict()))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Weights:
        """Weights from `to_arrays`, in memory of their own."""
        return cls({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})

    def to_arrays(self) -> dict[str, Array] | None:
        """The weights as NumPy arrays over the same memory; None when NumPy lacks a type (bfloat16)."""
        try:
            return {name: tensor.numpy() for name, tensor in self.tensors.items()}
        except TypeError:
            return None

    def load_into(self, module: torch.nn.Module) -> None:
        """Copy into the parameters and buffers of `module`, whose memory and layout stay.

        Raises `StateError` naming the first tensor that is missing, unexpected or of another shape or type.
        """
        own = module.state_dict()
        for name in sorted(own.keys() ^ self.tensors.keys()):
            there, absent = ("checkpoint", "network") if name in self.tensors else ("network", "checkpoint")
            raise StateError(f"the {absent} must hold the tensor {name!r} of the {there}, got none; {_ADVICE}")
        for name, tensor in own.items():
            got = self.tensors[name]
            if tensor.shape != got.shape or tensor.dtype != got.dtype:
                raise StateError(f"the tensor {name!r} must be {_describe(tensor)}, got {_describe(got)}; {_ADVICE}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(self.tensors[name])


@dataclass(frozen=True)
class Checkpoint:
    """The content of one checkpoint; `state` is JSON, `optimizer` a state dict as `torch.optim` gives it.

    `parts` are the states of what else takes part in the run, by name: JSON values and tensors.
    """

    model: Weights
    optimizer: dict[str, Any]
    best: Weights | None
    history: bytes
    state: JsonObject
    parts: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(target: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` as the bundle `target`; it survives a power cut from the moment this returns.

    Raises `DiskFullError` with the bytes needed and free (nothing that existed is touched), `StateError` naming a
    leaf that is not data.
    """
    shape, tensors = skeleton.split(checkpoint.optimizer)
    parts, part_tensors = skeleton.split(checkpoint.parts)
    files = {
        "model.safetensors": save(dict(checkpoint.model.tensors)),
        "optimizer.safetensors": save(packed(tensors)),
        "history.jsonl": checkpoint.history,
        "state.json": json.dumps({"version": VERSION, "optimizer": shape, "parts": parts, **checkpoint.state}).encode(),
    }
    if part_tensors:
        files["parts.safetensors"] = save(packed(part_tensors))
    if checkpoint.best is not None:
        files["best.safetensors"] = save(dict(checkpoint.best.tensors))
    try:
        with write_bundle(target, KIND) as directory:
            for name, data in files.items():
                (directory / name).write_bytes(data)
    except DiskFullError as error:
        raise DiskFullError(_full(target, sum(map(len, files.values()))), detail=error.detail) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Verify the bundle at `path` and read it.

    Raises `BundleError` naming the broken file, `StateError` when another release wrote it.
    """
    files = verify_bundle(path, KIND).files
    state = json.loads((path / "state.json").read_bytes())
    if state.pop("version", None) != VERSION:
        raise StateError(f"{path} must be a checkpoint of version {VERSION}; resume with the release that wrote it")
    best = Weights(_read_tensors(path / "best.safetensors")) if "best.safetensors" in files else None
    part_tensors = _read_tensors(path / "parts.safetensors") if "parts.safetensors" in files else {}
    return Checkpoint(
        model=Weights(_read_tensors(path / "model.safetensors")),
        optimizer=skeleton.join(state.pop("optimizer"), _read_tensors(path / "optimizer.safetensors")),
        best=best,
        history=(path / "history.jsonl").read_bytes(),
        parts=skeleton.join(state.pop("parts", {}), part_tensors),
        state=state,
    )


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Give `state` to `optimizer`, each tensor in memory of its own and with the strides of its parameter.

    A fused step walks parameter and state by address, so a state read back contiguous would not fit a parameter in
    channels_last. Raises `StateError` when the groups do not fit.
    """
    try:
        optimizer.load_state_dict(dict(state))
    except ValueError as error:
        raise StateError(
            f"the optimiser's state must fit the network's parameters; {_ADVICE}", detail=str(error)
        ) from error
    for parameter, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                like = parameter if value.shape == parameter.shape else value
                entry[name] = torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)


def packed(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Contiguous copies that share no memory, which is what safetensors holds.

    Raises `StateError` naming what is not a tensor (a module's extra state).
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise StateError(
                f"state {name!r} of the network must be a tensor, got {type(tensor).__name__}; "
                "keep it in a buffer (register_buffer)"
            )
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


_ADVICE = "resume with the configuration of the run, or start a new run"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise BundleError(f"{path} must be safetensors; remove this checkpoint, an older one is used") from error


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _full(target: Path, needed: int) -> str:
    free = shutil.disk_usage(target.parent).free
    return (
        f"the disk must have {needed:,} bytes free to save {target}, got {free:,}; "
        "free some space and run again with --resume, the checkpoints that exist are whole"
    )
