"""One checkpoint on disk: the files of its bundle, written and read as data (safetensors and JSON, never pickle).

    model.safetensors      the module's parameters and buffers
    optimizer.safetensors  the tensors of the optimiser's state
    best.safetensors       the weights of the best epoch so far; absent before the first evaluation
    parts.safetensors      the tensors of whatever else has a state (averaged weights); absent where nothing has
    history.jsonl          metrics.jsonl up to this step
    state.json             everything else: counters, random generators, schedule, the shapes of the states

Which checkpoint is taken, and when, is decided in `state.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from corelane.core.errors import BundleError, DiskFullError, NonFiniteLossError, StateError
from corelane.core.types import JsonObject
from corelane.store.bundle import Bundle, FileEntry, verify_bundle, write_bundle
from corelane.train import skeleton
from corelane.train.tensor_file import TensorFile, layout_of, read_tensors

KIND = "checkpoint"
VERSION = 2
MAX_STATE_BYTES = 64 << 20  # a thousand times what a run of ours writes
MODEL, OPTIMIZER, BEST, PARTS = (f"{name}.safetensors" for name in ("model", "optimizer", "best", "parts"))
HISTORY, STATE = "history.jsonl", "state.json"


@dataclass(frozen=True)
class Weights:
    """Parameters and buffers of a module by name: contiguous copies of its own, that share no memory."""

    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: torch.nn.Module) -> Weights:
        """The present weights of `module`. Raises `StateError` naming a state that is not a tensor."""
        file = TensorFile.of(state_tensors(module.state_dict()))
        weights = cls(file.tensors)
        weights.__dict__["file"] = file
        return weights

    @cached_property
    def file(self) -> TensorFile:
        """The weights as a file; `of` makes them in it."""
        return TensorFile.of(self.tensors)

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
    """The content of one checkpoint; `state` is JSON, `optimizer` and each of `parts` a state dict."""

    model: Weights
    optimizer: dict[str, Any]
    best: Weights | None
    history: bytes
    state: JsonObject
    parts: Mapping[str, Any] = field(default_factory=dict)


class Snapshot:
    """The memory of a save: `take` copies everything into it, `write` makes a checkpoint of that.

    The buffers are used again by the next `take`, so that must wait for the `write` before it.
    """

    def __init__(self) -> None:
        self._files: dict[str, TensorFile] = {}
        self._state: JsonObject = {}
        self._history = b""
        self.num_bytes = 0  # of all files of the last `write`, whatever became of it

    def take(
        self,
        model: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        *,
        weights: Iterable[str],
        state: JsonObject,
        history: bytes,
        best: Weights | None = None,
        parts: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        """Copy the state dicts of module and optimiser and all else. `state` is JSON that nobody changes afterwards.

        Raises `NonFiniteLossError` naming one of the `weights` (the module's parameters) that is not finite,
        `StateError` naming a leaf that is not data.
        """
        optimizer_shape, optimizer_tensors = skeleton.split(optimizer)
        parts_shape, part_tensors = skeleton.split(parts)
        copied = {
            MODEL: self._copy(MODEL, state_tensors(model)),
            OPTIMIZER: self._copy(OPTIMIZER, optimizer_tensors),
        }
        _check_finite(weights, copied[MODEL])
        if part_tensors:
            copied[PARTS] = self._copy(PARTS, part_tensors)
        if best is not None:
            copied[BEST] = best.file
        self._files, self._history = copied, history
        self._state = {"version": VERSION, "optimizer": optimizer_shape, "parts": parts_shape, **state}

    def write(self, target: Path, guard: Callable[[], None] = lambda: None) -> None:
        """Write what was taken as the bundle `target`; it survives a power cut from the moment this returns.

        `guard` is asked before the bundle appears; what it raises prevents that. Raises `DiskFullError` with the bytes
        needed and free; nothing that existed is touched.
        """
        files = {name: file.content for name, file in self._files.items()}
        files |= {HISTORY: memoryview(self._history), STATE: memoryview(json.dumps(self._state).encode())}
        known = {name: FileEntry(file.sha256, file.content.nbytes) for name, file in self._files.items()}
        self.num_bytes = sum(content.nbytes for content in files.values())
        try:
            with write_bundle(target, KIND, known=known, guard=guard, needed_bytes=self.num_bytes) as directory:
                for name, content in files.items():
                    (directory / name).write_bytes(content)
        except DiskFullError as error:
            raise DiskFullError(f"{error.message}; {_AFTER_A_FULL_DISK}", detail=error.detail) from error

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The `metrics` in the state of the last `take`."""
        metrics: Mapping[str, Any] = self._state.get("metrics", {})
        return metrics

    @property
    def model(self) -> Weights | None:
        """The weights of the last `take`, in its memory; None before."""
        return Weights(self._files[MODEL].tensors) if self._files else None

    def _copy(self, name: str, tensors: Mapping[str, Tensor]) -> TensorFile:
        """`tensors` copied into the buffer of the last time, or into a new one where their layout has changed."""
        file = self._files.get(name)
        if file is None or file.layout != layout_of(tensors):
            return TensorFile.of(tensors)
        file.fill(tensors)
        return file


def read_checkpoint(path: Path) -> Checkpoint:
    """Verify the bundle at `path` and read it.

    Raises `BundleError` naming the broken file, `StateError` when another release wrote it.
    """
    bundle = verify_bundle(path, KIND)
    try:
        return _read(bundle)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{path} must be a checkpoint as it was written, got another content ({type(error).__name__}: {error}); "
            "remove it, an older one is used"
        ) from error


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


def state_tensors(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """A module's state dict, all of it tensors. Raises `StateError` naming what is not (a module's extra state)."""
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise StateError(
                f"state {name!r} of the network must be a tensor, got {type(tensor).__name__}; "
                "keep it in a buffer (register_buffer)"
            )
    return state


_AFTER_A_FULL_DISK = "run again with --resume, the checkpoints that exist are whole"
_ADVICE = "resume with the configuration of the run, or start a new run"


def _read(bundle: Bundle) -> Checkpoint:
    path, files = bundle.path, bundle.files
    if files[STATE].size > MAX_STATE_BYTES:
        raise ValueError(f"a {STATE} of {files[STATE].size} bytes")
    state = json.loads((path / STATE).read_bytes())
    version = state.pop("version", None)
    if version != VERSION:
        raise StateError(
            f"{path} must be a checkpoint of version {VERSION}, got {version!r}; resume with the release that wrote it"
        )
    parts = read_tensors(path / PARTS) if PARTS in files else {}
    return Checkpoint(
        model=_read_weights(path / MODEL),
        optimizer=skeleton.join(state.pop("optimizer"), read_tensors(path / OPTIMIZER)),
        best=_read_weights(path / BEST) if BEST in files else None,
        history=(path / HISTORY).read_bytes(),
        parts=skeleton.join(state.pop("parts"), parts),
        state=state,
    )


def _read_weights(path: Path) -> Weights:
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise BundleError(f"{path} must hold weights that are numbers, got NaN in {name!r}; remove this checkpoint")
    return Weights(tensors)


def _check_finite(weights: Iterable[str], copied: TensorFile) -> None:
    for name in weights:
        tensor = copied.tensors[name]
        # A sum is finite only if all of its terms are, and costs a third of looking at each; it may overflow, though.
        if not bool(tensor.sum().isfinite()) and not bool(tensor.isfinite().all()):
            raise NonFiniteLossError(
                f"the weights must be finite to be saved, got NaN or infinity in {name!r}; lower train.learning_rate "
                "(try a tenth) or train.clip_norm, or look for extreme values in the data"
            )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
