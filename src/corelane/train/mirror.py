"""Copies of durable checkpoints in storage that machines share: what is left when this machine's disk is gone.

`folder.py` hands over each checkpoint once it is durable here, and asks for the newest copy when none is left here. A
thread of its own copies, reads the copy back and compares every byte's hash (`SharedTier.check`); only then is it told
as mirrored. While it copies, later checkpoints wait, and only the newest of them comes next. Nothing here fails a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from corelane.core.errors import BundleError, CorelaneError
from corelane.observe.log import SystemLogger
from corelane.train.checkpoint import KIND
from corelane.train.saver import BackgroundSaver

FOLDER = "checkpoints"
NUM_KEPT = 2  # copies of a run: one may be found broken


class SharedStore(Protocol):
    """What a mirror needs of the shared tier."""

    def keep(self, folder: str, name: str, bundle: Path) -> bool:
        """See `Archive.keep`."""
        ...

    def fetch(self, folder: str, name: str, kind: str, target: Path) -> bool:
        """See `Archive.fetch`."""
        ...

    def check(self, name: str) -> BundleError | None:
        """What is wrong with the entry `name`."""
        ...

    def entries(self) -> dict[str, int]:
        """The bytes of every entry by name."""
        ...

    def discard(self, name: str) -> bool:
        """Remove the entry `name`."""
        ...


class Mirror(Protocol):
    """Takes durable checkpoints, and gives copies back."""

    def keep(self, step: int, checkpoint: Path, release: Callable[[int], None]) -> None:
        """Copy `checkpoint` in time; `release` is called when its files are no longer needed."""
        ...

    def steps(self) -> list[int]:
        """The steps of which there are copies, oldest first."""
        ...

    def fetch(self, step: int, target: Path) -> bool:
        """Put the files of a copy into the directory `target`; whether that came about."""
        ...

    def close(self, timeout_s: float) -> None:
        """Wait for what is still to be copied, at most so long."""
        ...


class NoMirror:
    """Nothing is copied."""

    def keep(self, step: int, checkpoint: Path, release: Callable[[int], None]) -> None:  # noqa: ARG002
        """Let it go at once."""
        release(step)

    def steps(self) -> list[int]:
        """None."""
        return []

    def fetch(self, step: int, target: Path) -> bool:  # noqa: ARG002
        """Never there."""
        return False

    def close(self, timeout_s: float) -> None:
        """Nothing is left to do."""


class SharedMirror:
    """Owns the copies `<run>-<step>` of one run in `store`, and the thread that makes them.

    `mirrored_step` is that of the newest copy that was read back and found whole.
    """

    def __init__(self, store: SharedStore, run: str, logger: SystemLogger) -> None:
        self.mirrored_step: int | None = None
        self._store = store
        self._run = run
        self._logger = logger
        self._thread = BackgroundSaver()
        self._lock = threading.Lock()
        self._next: tuple[int, Path, Callable[[int], None]] | None = None
        self._is_copying = False
        self._copies: list[int] | None = None  # what the store has of us, listed once: it may hold a million others

    def keep(self, step: int, checkpoint: Path, release: Callable[[int], None]) -> None:
        """Make it the next to be copied; one that waited is let go."""
        with self._lock:
            waiting, self._next = self._next, (step, checkpoint, release)
            is_to_start, self._is_copying = not self._is_copying, True
        if waiting is not None:
            waiting[2](waiting[0])
        if is_to_start:
            self._thread.submit(self._copy_all)

    def steps(self) -> list[int]:
        """The steps of the run's copies; a store that does not answer has none, which is told."""
        return self._listed() or []

    def fetch(self, step: int, target: Path) -> bool:
        """The files of a copy that is whole."""
        return self._store.fetch(FOLDER, self._name(step), KIND, target)

    def close(self, timeout_s: float) -> None:
        """Wait for the copies that are due."""
        if not self._thread.wait(timeout_s):
            self._tell("mirror_left", self.mirrored_step or 0, f"a copy took longer than {timeout_s:.0f} s")
        self._thread.close()

    def _copy_all(self) -> None:
        while True:
            with self._lock:
                due, self._next = self._next, None
                if due is None:
                    self._is_copying = False
                    return
            step, checkpoint, release = due
            try:
                self._copy(step, checkpoint)
            except Exception as error:  # noqa: BLE001  (a store's driver may raise anything, and no run ends for a copy)
                self._tell("checkpoint_not_mirrored", step, f"{type(error).__name__}: {error}")
            finally:
                release(step)

    def _copy(self, step: int, checkpoint: Path) -> None:
        if not self._store.keep(FOLDER, self._name(step), checkpoint):
            self._tell("checkpoint_not_mirrored", step, "the store did not take it")
            return
        fault = self._store.check(f"{FOLDER}/{self._name(step)}")
        if fault is not None:
            self._tell("checkpoint_not_mirrored", step, fault.message)
            return
        self.mirrored_step = step
        self._logger.training.info("checkpoint_mirrored", mirrored_step=step)
        self._discard_older(step)

    def _discard_older(self, step: int) -> None:
        """Leave `NUM_KEPT` copies. What a store does not list now is looked for again after the next copy."""
        copies = self._listed() if self._copies is None else sorted({*self._copies, step})
        for old in (copies or [])[:-NUM_KEPT]:
            self._store.discard(f"{FOLDER}/{self._name(old)}")
        self._copies = None if copies is None else copies[-NUM_KEPT:]

    def _listed(self) -> list[int] | None:
        """The steps of the run's copies, oldest first; None, which is told, where the store does not answer."""
        try:
            names = self._store.entries()
        except (OSError, CorelaneError) as error:
            self._tell("mirror_not_read", 0, str(error))
            return None
        start = f"{FOLDER}/{self._run}-"
        found = [name.removeprefix(start) for name in names if name.startswith(start)]
        return sorted(int(step) for step in found if step.isascii() and step.isdecimal())

    def _name(self, step: int) -> str:
        return f"{self._run}-{step}"

    def _tell(self, event: str, step: int, reason: str) -> None:
        self._logger.training.warning(event, step=step, reason=reason, action="the run goes on with its own disk")
