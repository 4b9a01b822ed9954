"""Augmented batches kept on disk (L2), an entry an epoch, for other runs that see the same batches.

An opt-in (`train.augment.cache`): the batches differ each epoch, so every epoch is as large as the training part, and
only another run over the same data, with the same seed, batch size and augmentation, finds them. They are the same
bytes, so nothing else changes. Recording costs one sequential write; a disk that cannot take it ends the recording.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corelane.core.errors import CorelaneError
from corelane.core.types import Array, IntArray, JsonObject
from corelane.data.appender import FileAppender
from corelane.store.bundle import FileEntry
from corelane.store.tiers.arrays import write_names
from corelane.store.tiers.disk import DiskTier
from corelane.train.augment import Augmenting
from corelane.train.batches import Change, TensorBatch

FOLDER = "augmented"  # the kind of entry in the cache
_VERSION = 1
_TARGET = "target"


class CachedAugmenter:
    """Owns the entry that is being recorded, and gives what `inner` gives, from `disk` where it is kept.

    `facts` are everything that the batches of an epoch depend on beside its number. An epoch has `num_rows` rows.
    """

    def __init__(self, inner: Augmenting, disk: DiskTier, facts: JsonObject, num_rows: int) -> None:
        self._inner = inner
        self._disk = disk
        self._facts = {**facts, "version": _VERSION, "torch": torch.__version__, "numpy": np.__version__}
        self._num_rows = num_rows
        self._recording: _Recording | None = None

    def epoch(self, epoch: int, first_row: int) -> Change:
        """See `Augmenting.epoch`. An epoch that is entered in its middle is replayed, but not recorded."""
        self.close()
        key = hashlib.sha256(json.dumps([self._facts, epoch], sort_keys=True).encode()).hexdigest()
        kept = self._disk.get(f"{FOLDER}/{key}")
        if kept is not None:
            return _Replay(dict(kept), first_row)
        change = self._inner.epoch(epoch, first_row)
        if first_row:
            return change
        self._recording = _Recording(change, partial(self._disk.recording, FOLDER, key), self._num_rows)
        return self._recording

    def close(self) -> None:
        """Give up what is half recorded."""
        if self._recording is not None:
            self._recording.give_up(_StoppedError())
            self._recording = None


class _StoppedError(Exception):
    """The run ended in the middle of an epoch: the disk is not to blame, and nobody needs to hear of it."""


class _Replay:
    """A `Change` that gives kept rows, in their order, in place of those that come in."""

    def __init__(self, arrays: dict[str, Array], first_row: int) -> None:
        self._target = arrays.pop(_TARGET)
        self._inputs = list(arrays.values())
        self._next = first_row

    def __call__(self, inputs: list[Tensor], target: Tensor, rows: IntArray) -> TensorBatch:
        del inputs, target
        first, self._next = self._next, self._next + len(rows)
        # Copies: a module may work in place on what it is given, and a map of a file cannot be written to.
        taken = [torch.from_numpy(array[first : self._next].copy()) for array in (*self._inputs, self._target)]
        return taken[:-1], taken[-1]


class _Recording:
    """A `Change` that writes what `change` gives to an entry, which appears when `num_rows` rows have come."""

    def __init__(
        self,
        change: Change,
        begin: Callable[[int, dict[str, FileEntry]], AbstractContextManager[Path]],
        num_rows: int,
    ) -> None:
        self._change = change
        self._begin = begin
        self._num_left = self._num_rows = num_rows
        self._files = ExitStack()
        self._appenders: list[FileAppender] = []
        self._known: dict[str, FileEntry] = {}
        self._is_over = False

    def __call__(self, inputs: list[Tensor], target: Tensor, rows: IntArray) -> TensorBatch:
        changed, soft = self._change(inputs, target, rows)
        if not self._is_over:
            try:
                self._record([tensor.numpy() for tensor in (*changed, soft)])
            except (OSError, CorelaneError) as error:
                self.give_up(error)  # the disk tier tells what its disk lacks
        return changed, soft

    def give_up(self, error: Exception) -> None:
        """Remove what was written, because of `error`, unless the entry is complete."""
        if not self._is_over:
            self._is_over = True
            with suppress(OSError, CorelaneError, _StoppedError):
                self._files.__exit__(type(error), error, error.__traceback__)

    def _record(self, arrays: list[Array]) -> None:
        if not self._appenders:
            self._open(arrays)
        for appender, array in zip(self._appenders, arrays, strict=True):
            appender.append(array)
        self._num_left -= len(arrays[-1])
        if self._num_left == 0:
            for index, appender in enumerate(self._appenders):
                appender.finish()
                if appender.entry is not None:
                    self._known[f"{index}.npy"] = appender.entry
            self._is_over = True
            self._files.close()

    def _open(self, arrays: list[Array]) -> None:
        num_bytes = sum(array.nbytes // len(array) for array in arrays) * self._num_rows
        directory = self._files.enter_context(self._begin(num_bytes, self._known))
        write_names(directory, [*map(str, range(len(arrays) - 1)), _TARGET])
        for index, array in enumerate(arrays):
            file = FileAppender(directory / f"{index}.npy", array.dtype, array.shape[1:], max_rows=self._num_rows)
            self._appenders.append(self._files.enter_context(file))
