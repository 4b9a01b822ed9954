"""Where a trainer is, for whoever watches it from outside: a few numbers in a small file of the run, mapped to memory.

The trainer writes them after every step, which is four stores to memory (0.5 us, no system call); the process that
started it reads them. What is there survives the trainer's death, so it also says where it died.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, Self, TypeAlias, TypeVar, get_args

FILE: Final = "heartbeat"

Phase: TypeAlias = Literal["start", "prepare", "plan", "train", "evaluate", "save", "finish"]
"""What a trainer does: loading itself, preparing data, choosing a plan (and compiling), steps, evaluating, saving, the
last evaluation and the report."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

ItemT = TypeVar("ItemT")

_WORDS = ("pid", "phase", "beats", "step", "epoch", "batch", "micro_batch")
_PID, _PHASE, _BEATS, _STEP, _EPOCH, _BATCH, _MICRO_BATCH = range(len(_WORDS))
_WORD_BYTES = 8
_BYTES = len(_WORDS) * _WORD_BYTES


@dataclass(frozen=True)
class Beat:
    """The last sign of process `pid`: in `phase`, `step` steps done, `batch` of them in epoch `epoch` (from 0).

    `beats` grows with every sign. `micro_batch` rows go through the network at once; 0 before that is known.
    """

    pid: int = 0
    phase: Phase = "start"
    beats: int = 0
    step: int = 0
    epoch: int = 0
    batch: int = 0
    micro_batch: int = 0


class Heart(Protocol):
    """Takes signs of life."""

    def beat(self, step: int, epoch: int, batch: int) -> None:
        """`step` steps are done, `batch` of them in epoch `epoch`."""
        ...

    def enter(self, phase: Phase) -> None:
        """Phase `phase` begins."""
        ...

    def tell_micro_batch(self, num_rows: int) -> None:
        """So many rows go through the network at once."""
        ...


class NoHeart:
    """Takes signs of life that nobody watches."""

    def beat(self, step: int, epoch: int, batch: int) -> None:
        """Nothing happens."""

    def enter(self, phase: Phase) -> None:
        """Nothing happens."""

    def tell_micro_batch(self, num_rows: int) -> None:
        """Nothing happens."""


NO_HEART: Final = NoHeart()


class Heartbeat:
    """Owns the mapped file of one run and nothing else. `read` and the writing methods may be in two processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("r+b") as file:
            self._status = os.fstat(file.fileno())
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self._words = memoryview(self._map).cast("q")

    @classmethod
    def make(cls, path: Path) -> Self:
        """A new file at `path`. Raises `OSError` when there is no room: a hole in a mapped file would be a SIGBUS.

        One that is there is not cut short, which would be a SIGBUS too in the process that has it mapped.
        """
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, _BYTES)
        return cls(path)

    def beat(self, step: int, epoch: int, batch: int) -> None:
        """As `Heart.beat`."""
        words = self._words
        words[_STEP] = step
        words[_EPOCH] = epoch
        words[_BATCH] = batch
        words[_BEATS] += 1

    def enter(self, phase: Phase) -> None:
        """As `Heart.enter`; also a sign of life within a phase."""
        self._words[_PHASE] = PHASES.index(phase)
        self._words[_PID] = os.getpid()
        self._words[_BEATS] += 1

    def tell_micro_batch(self, num_rows: int) -> None:
        """As `Heart.tell_micro_batch`."""
        self._words[_MICRO_BATCH] = num_rows

    def clear(self) -> None:
        """Forget the last process: the next one has not begun."""
        for index in range(len(_WORDS)):
            self._words[index] = 0

    def read(self) -> Beat:
        """The last sign."""
        pid, phase, *rest = self._words.tolist()
        return Beat(pid, PHASES[phase], *rest)

    def close(self) -> None:
        """Unmap the file, which stays. May be called twice."""
        self._words.release()
        self._map.close()

    def remove(self) -> None:
        """Remove the file; one that another watcher has put in its place is left alone."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self._path.stat(), self._status):
                self._path.unlink()


@contextmanager
def heart_of(directory: Path) -> Iterator[Heart]:
    """The heart of the run in `directory` that the watching process has made; one that nobody watches without it."""
    try:
        heart = Heartbeat(directory / FILE)
    except (OSError, ValueError):  # ValueError: an empty file, on a disk that was full
        yield NO_HEART
        return
    try:
        yield heart
    finally:
        heart.close()


@contextmanager
def watched_file(directory: Path) -> Iterator[Heartbeat | None]:
    """The heartbeat of a run that is about to be trained by a child; None where the disk has no room for it."""
    path = directory / FILE
    try:
        heartbeat = Heartbeat.make(path)
    except OSError:
        with suppress(OSError):
            path.unlink()
        yield None
        return
    try:
        yield heartbeat
    finally:
        heartbeat.close()
        heartbeat.remove()


def phase_beats(heart: Heart, phase: Phase, items: Iterable[ItemT]) -> Iterator[ItemT]:
    """`items`, each a sign of life in `phase`: an evaluation's batches."""
    for item in items:
        heart.enter(phase)
        yield item
