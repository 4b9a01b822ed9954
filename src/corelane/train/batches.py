"""Prepared rows as torch tensors: the bridge between the data room's NumPy buffers and the module. No copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from corelane.core.types import IntArray
from corelane.data.kept import KeptData
from corelane.data.prepared import PreparedPart
from corelane.data.processor import CPUDataProcessor, Order

TensorBatch = tuple[list[Tensor], Tensor]
"""The module's inputs in order, each [n, ...], and the target [n]; valid until the next few batches are taken."""

Change = Callable[[list[Tensor], Tensor, IntArray], TensorBatch]
"""From inputs, target and row indices of a batch to the batch that the step sees."""


def unchanged(inputs: list[Tensor], target: Tensor, rows: IntArray) -> TensorBatch:
    """The batch as it is."""
    del rows
    return inputs, target


class TensorBatches:
    """Gives the rows of a part in a given order, images in the plan's layout."""

    def __init__(self, processor: CPUDataProcessor, *, channels_last: bool) -> None:
        self._processor = processor
        self._channels_last = channels_last

    def of(
        self,
        part: PreparedPart,
        order: Order,
        batch_size: int,
        *,
        start: int = 0,
        drop_last: bool = False,
        change: Change = unchanged,
    ) -> Iterator[TensorBatch]:
        """Batches of `batch_size` rows of `part`, in the order `order`, of which `start` were taken.

        `change` makes of each batch, and of the rows' indices in the part, what is trained on.
        """
        batches = self._processor.indexed_batches(part, order, batch_size, start=start, drop_last=drop_last)
        for rows, (arrays, target) in batches:
            inputs, labels = change(
                [torch.from_numpy(array) for array in arrays.values()], torch.from_numpy(target), rows
            )
            yield [self._tensor(tensor) for tensor in inputs], labels

    def of_validation(self, data: KeptData, batch_size: int) -> Iterator[TensorBatch]:
        """All rows of the validation part in order, which may come from memory."""
        for arrays, target in data.validation(self._processor, batch_size):
            yield [self._tensor(torch.from_numpy(array)) for array in arrays.values()], torch.from_numpy(target)

    def _tensor(self, tensor: Tensor) -> Tensor:
        if self._channels_last and tensor.ndim == 4:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor


def in_layout(module: torch.nn.Module, layout: torch.memory_format) -> torch.nn.Module:
    """`module` itself, its 4-d parameters and buffers laid out as `layout` says; all of them where contiguous."""
    module = module.to(memory_format=layout)  # type: ignore[call-overload]
    if layout is torch.contiguous_format:
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.contiguous()
    return module


def by_columns(module: torch.nn.Module) -> torch.nn.Module:
    """`module` itself, the weights of its linear layers column by column in memory; shapes, names and values stay."""
    for part in module.modules():
        if isinstance(part, torch.nn.Linear):
            part.weight.data = part.weight.data.t().contiguous().t()
    return module
