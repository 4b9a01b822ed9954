"""Telling the metadata store of runs, packages and servings while they happen, without anyone waiting for it.

A live run is followed from outside: a thread reads its directory, where everything is anyway, so the trainer knows of
no index. Servings have no directory, so they are noted in `<runs>/servings.jsonl`, and the store learns them from
there. The store and SQLAlchemy are loaded in the writer's thread. Nothing here may end a run, a package or a server.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from corelane.app.package_records import read_package
from corelane.app.record_files import BROKEN
from corelane.app.run_records import HOST, RunReader
from corelane.core.clock import Clock, SystemClock
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.store.metadata_records import Serving
from corelane.store.metadata_writer import MetadataWriter, Store, Tell

INDEX = "metadata.sqlite"
STALE = "metadata.stale"
SERVINGS = "servings.jsonl"
POLL_S = 2.0  # how old the index of a live run may be
MAX_SERVINGS_BYTES = 4 << 20  # some 15,000 starts of a server; then the older half moves to a second file


def metadata_url(configured: str | None, runs: Path) -> str:
    """The URL of the index: the configured one, or a file in the folder of the runs."""
    return configured if configured is not None else f"sqlite:///{runs.absolute() / INDEX}"


def mark_stale(runs: Path) -> None:
    """Leave word that the index has a gap; `corelane runs` tells of it, and `reindex` fills it."""
    with suppress(OSError):  # a full or read-only disk: the log has it
        (runs / STALE).touch()


@contextmanager
def recorded_run(
    directory: Path, observe: ObserveConfig, *, clock: Clock | None = None, poll_s: float = POLL_S
) -> Iterator[None]:
    """Keep the index up to date with the run in `directory` while the block trains it; its end waits some seconds."""
    clock = clock or SystemClock()
    with (
        SystemLogger(observe, directory=directory / "logs", terminal_level="warning") as logger,
        _writer(directory.parent, observe.metadata, logger) as writer,
    ):
        follower = _Follower(directory, writer, clock, poll_s)
        try:
            yield
        finally:
            follower.close()


def record_package(path: Path, runs: Path, observe: ObserveConfig) -> None:
    """Tell the index of `runs` that the package at `path` was published."""
    with SystemLogger(observe) as logger, _writer(runs, observe.metadata, logger) as writer:
        try:
            writer.put(read_package(path))
        except BROKEN as error:
            logger.system.warning("metadata_unread", path=str(path), reason=str(error))


@contextmanager
def _writer(runs: Path, url: str | None, logger: SystemLogger) -> Iterator[MetadataWriter]:
    def tell(event: str, fields: Mapping[str, Any]) -> None:
        logger.system.warning(event, **fields)

    writer = MetadataWriter(connector(metadata_url(url, runs), tell), tell=tell, on_loss=lambda: mark_stale(runs))
    try:
        yield writer
    finally:
        writer.close()


def connector(url: str, tell: Tell) -> Callable[[], Store]:
    """What makes the store at `url`, with the import that takes a third of a second."""

    def connect() -> Store:
        from corelane.store.metadata import MetadataStore  # noqa: PLC0415 - SQLAlchemy, in the writer's thread

        return MetadataStore(url, tell=tell)

    return connect


class _Follower:
    """Owns the thread that reads a live run's directory, and nothing else."""

    def __init__(self, directory: Path, writer: MetadataWriter, clock: Clock, poll_s: float) -> None:
        self._reader = RunReader(directory)
        self._writer = writer
        self._clock = clock
        self._poll_s = poll_s
        self._generation = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metadata-follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read the directory a last time, as nobody writes it any more."""
        self._ended.set()
        self._thread.join()
        self._poll(is_over=True)

    def _run(self) -> None:
        while True:
            self._poll(is_over=False)
            if self._ended.wait(self._poll_s):
                return

    def _poll(self, *, is_over: bool) -> None:
        generation = self._writer.generation
        if generation > max(1, self._generation):
            self._reader.reset()  # another database than the one that was written so far
        self._generation = generation
        try:
            records = self._reader.read(self._clock.now(), is_over=is_over)
        except BROKEN:
            return  # a file was just being replaced, or the run's own trouble: it tells of that itself
        is_taken = [self._writer.put(record) for record in records]
        if not all(is_taken):
            self._reader.reset()  # told anew the next time, when there may be room


# --- servings ---------------------------------------------------------------------------------------------------------


@contextmanager
def recorded_servings(
    packages: Sequence[Path], runs: Path, url: str | None, *, logger: SystemLogger, clock: Clock | None = None
) -> Iterator[Callable[[str], None]]:
    """Yields what is to be called with the server's URL when it accepts requests; the end of the block is its end.

    Only packages that lie where they were published are noted, and only where there is a folder of runs to note it in.
    """
    clock = clock or SystemClock()
    servings: list[Serving] = []

    def announce(address: str) -> None:
        for path in packages:
            with suppress(*BROKEN):  # a package in another place, such as the one before the gate
                about = read_package(path.resolve())
                since_s = clock.now()
                serving = Serving(about.digest, about.name, about.version, address, HOST, os.getpid(), since_s)
                servings.append(serving)
        _note(servings, runs, url, logger)

    try:
        yield announce
    finally:
        _note([replace(serving, until_s=clock.now()) for serving in servings], runs, url, logger)


def read_servings(runs: Path) -> list[Serving]:
    """The servings that were noted in the folder `runs`, oldest first, each as it was noted last."""
    found: dict[str, Serving] = {}
    for name in (f"{SERVINGS}.1", SERVINGS):
        with suppress(OSError):
            for line in (runs / name).read_bytes().splitlines():
                with suppress(ValueError, TypeError):  # a line that a power cut left torn
                    serving = Serving(**json.loads(line))
                    found[serving.key] = serving
    return list(found.values())


def _note(servings: Sequence[Serving], runs: Path, url: str | None, logger: SystemLogger) -> None:
    if not servings or not runs.is_dir():
        return
    path = runs / SERVINGS
    lines = b"".join(json.dumps(asdict(serving)).encode() + b"\n" for serving in servings)
    try:
        if path.exists() and path.stat().st_size > MAX_SERVINGS_BYTES:
            path.replace(runs / f"{SERVINGS}.1")
        with path.open("ab", buffering=0) as file:
            file.write(lines)  # one call: lines of several servers do not mix
    except OSError as error:
        logger.system.warning("serving_not_noted", path=str(path), reason=str(error))
    if url is not None:  # a shared index hears of it now; the file in the folder when somebody looks
        with _writer(runs, url, logger) as writer:
            for serving in servings:
                writer.put(serving)
