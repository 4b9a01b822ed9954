"""How many rows go through the network at once: as many as the memory has room for.

What a batch takes is predicted from two small ones: the tensors that the backward pass keeps grow with the rows, so two
sizes give the line. Counting them (and not the process's memory) makes the choice the same on each start, which it must
be, since pieces of another size give other low bits. Where a batch is cut, that is decided before step 0 and kept in
the run (`micro_batch.py`).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corelane.core.errors import MemoryBudgetError
from corelane.data.prepared import PreparedData
from corelane.train.batches import TensorBatch
from corelane.train.config import TrainConfig
from corelane.train.losses import Loss, loss_for
from corelane.train.micro_batch import record_rows

PROBE_ROWS = (4, 8)  # more than one, for batch norm; small, since even these must fit
WORKING_SHARE = 1.5  # of what is kept: gradients of activations and the kernels' own buffers come on top


def fitted_to_room(
    config: TrainConfig, directory: Path, module: torch.nn.Module, data: PreparedData, room_bytes: float
) -> TrainConfig:
    """`within_room` for the batches of a run on `data`."""
    rows = slice(0, max(PROBE_ROWS))
    inputs = [torch.from_numpy(np.array(array[rows])) for array in data.train.inputs.values()]
    return within_room(
        config,
        directory,
        module,
        loss_for(data.pipeline.target, config),
        sample=(inputs, torch.from_numpy(np.array(data.train.target[rows]))),
        batch_size=min(config.batch_size, data.train.num_rows),
        room_bytes=room_bytes,
    )


def within_room(
    config: TrainConfig,
    directory: Path,
    module: torch.nn.Module,
    loss: Loss,
    *,
    sample: TensorBatch,
    batch_size: int,
    room_bytes: float,
) -> TrainConfig:
    """`config` with as many rows at once as fit `room_bytes`, where a batch does not and nothing else is configured.

    `sample` has rows like those of a batch, a few. Fewer rows than a batch are recorded in the run's `directory`.
    Raises `MemoryBudgetError` when not even one row fits.
    """
    if config.micro_batch_size is not None or math.isinf(room_bytes):
        return config
    line = activation_line(module, loss, sample)
    rows = fitting(line, batch_size, room_bytes)
    if rows == batch_size:
        return config
    because = f"a batch of {batch_size} would take {line.at(batch_size):,} bytes, and {room_bytes:,.0f} are there"
    record_rows(directory, rows, because)
    return config.model_copy(update={"micro_batch_size": rows})


@dataclass(frozen=True)
class Line:
    """Bytes a step takes beside weights and optimiser: `fixed_bytes` and `row_bytes` more for each row."""

    fixed_bytes: float
    row_bytes: float

    def at(self, num_rows: int) -> int:
        """Bytes of a step on `num_rows` rows."""
        return round(self.fixed_bytes + self.row_bytes * num_rows)


def fitting(line: Line, batch_size: int, room_bytes: float) -> int:
    """Rows of the fewest equal pieces of a batch that fit. Raises `MemoryBudgetError` when one row does not."""
    if line.at(batch_size) <= room_bytes:
        return batch_size
    most = int((room_bytes - line.fixed_bytes) // max(line.row_bytes, 1.0))
    if most < 1:
        raise MemoryBudgetError(
            f"the memory must have room for one row at a time, {line.at(1):,} bytes, got {room_bytes:,.0f}; "
            "raise machine.memory, or train a smaller network"
        )
    return -(-batch_size // -(-batch_size // most))


def activation_line(module: torch.nn.Module, loss: Loss, sample: TensorBatch) -> Line:
    """What a step on rows such as `sample` takes in memory, by two small probes. Nothing of the module is changed."""
    fewer, more = (min(num_rows, len(sample[1])) for num_rows in PROBE_ROWS)
    small = _kept_bytes(module, loss, sample, fewer)
    if fewer == more:
        return Line(0.0, WORKING_SHARE * small / fewer)
    slope = max(0.0, _kept_bytes(module, loss, sample, more) - small) / (more - fewer)
    return Line(WORKING_SHARE * max(0.0, small - slope * fewer), WORKING_SHARE * slope)


def _kept_bytes(module: torch.nn.Module, loss: Loss, sample: TensorBatch, num_rows: int) -> int:
    """Bytes of the tensors that a forward pass on `num_rows` rows of `sample` keeps for the backward one."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*module.parameters(), *module.buffers()]}
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs, target = [tensor[:num_rows].clone() for tensor in sample[0]], sample[1][:num_rows]
    buffers = copy.deepcopy(dict(module.named_buffers()))
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        kept = loss(module(*inputs), target)
    del kept
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    return sum(sizes.values())
