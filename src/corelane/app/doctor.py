"""`corelane doctor`: what this machine is, and a dry run of the whole way on a few rows in a temporary folder.

Each check runs the real thing: the data opens and gives a batch, a short epoch trains and saves, the checkpoint is read
back, a package is written, loaded and answers. The first failure ends the list, with its reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import nn

from corelane.app.config import RootConfig, data_section, load_root
from corelane.app.sources import open_source
from corelane.app.tiers import disk_tier
from corelane.app.training import initial_module, prepare_run, train_prepared
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import CorelaneError, DataError
from corelane.data.prepared import PreparedData
from corelane.data.source import DataSource
from corelane.data.sources.memory import InMemorySource
from corelane.machine.cpu import Machine
from corelane.model.export import package_contents
from corelane.model.package import ModelPackage, write_package
from corelane.observe.log import SystemLogger
from corelane.recipes.catalogue import CONFIG_NAME, find_recipe
from corelane.train.live import make_progress
from corelane.train.state import TrainingStateManager

MAX_BATCHES = 16  # of the source's own size, 8,192 rows unless configured: looked at, not trained on
SAMPLE_ROWS = 512  # holds every class of a small problem in each part, and trains in a second


def examine(config: Path | None = None, overrides: Sequence[str] = (), *, clock: Clock | None = None) -> dict[str, Any]:
    """The machine's facts, and the dry run of `config` (a bundled recipe without one) check by check.

    Returns `machine`, `checks` (name to outcome) and `healthy`. Raises `ConfigError` when the configuration
    itself is wrong.
    """
    root = load_root(config or find_recipe("digits").folder / CONFIG_NAME, overrides)
    data_section(root)
    with tempfile.TemporaryDirectory(prefix="corelane-doctor-") as folder:
        checks = _DryRun(root, Path(folder)).run(clock or SystemClock())
    return {
        "machine": dict(Machine.detect().describe()),
        "dry run of": str(config) if config else "the bundled recipe digits",
        "checks": checks,
        "healthy": all(outcome.startswith("ok") for outcome in checks.values()),
    }


class _DryRun:
    """The steps of the way in order; each leaves what the next one needs."""

    def __init__(self, root: RootConfig, folder: Path) -> None:
        machine = root.machine.model_copy(update={"cache": str(folder / "cache")})
        train = root.train.model_copy(update={"epochs": 1, "save_interval": 1})
        self._root = root.model_copy(update={"machine": machine, "train": train})
        self._folder = folder
        self._logger = SystemLogger(terminal_level="error")
        self._source: DataSource
        self._sample: pa.Table
        self._data: PreparedData
        self._module: nn.Module
        self._package: ModelPackage

    def run(self, clock: Clock) -> dict[str, str]:
        """Outcomes by check, up to the first that fails."""
        outcomes: dict[str, str] = {}
        checks: list[tuple[str, Callable[[], str]]] = [
            ("data opens", self._open),
            ("one batch", self._read),
            ("pipeline fits", self._prepare),
            ("training steps and a save", self._train),
            ("restore", self._restore),
            ("package", self._write_package),
            ("inference", self._infer),
        ]
        try:
            for name, check in checks:
                started_s = clock.monotonic()
                try:
                    outcomes[name] = f"ok: {check()} ({clock.monotonic() - started_s:.2f} s)"
                except CorelaneError as error:
                    outcomes[name] = f"failed: {error.message}"
                    break
        finally:
            self._logger.close()
        return outcomes

    def _open(self) -> str:
        self._source = open_source(data_section(self._root).source)
        return f"columns {', '.join(self._source.schema().names[:8])}"

    def _read(self) -> str:
        first = list(islice(self._source.batches(), MAX_BATCHES))
        rows = pa.Table.from_batches([batch.rows for batch in first], schema=self._source.schema())
        if rows.num_rows == 0:
            raise DataError("the data must have at least one row, got none; check the file")
        # Evenly spaced: files are often sorted by their label.
        chosen = np.unique(np.linspace(0, rows.num_rows - 1, SAMPLE_ROWS).astype(np.int64))
        self._sample = rows.take(pa.array(chosen))
        return f"{first[0].rows.num_rows} rows"

    def _prepare(self) -> str:
        sample = InMemorySource(self._sample)
        self._data = prepare_run(
            self._root, (sample, None), self._folder, disk_tier(self._root, self._logger), self._logger
        )
        return (
            f"tensors {', '.join(f'{name} {list(spec.shape)}' for name, spec in self._data.pipeline.outputs.items())}"
        )

    def _train(self) -> str:
        self._module = initial_module(self._root, self._data)
        train_prepared(
            self._folder,
            self._root,
            self._data,
            self._module,
            logger=self._logger,
            progress=make_progress(quiet=True),
            should_stop=lambda: False,
            resume=False,
            disk=disk_tier(self._root, self._logger),
        )
        return f"{sum(parameter.numel() for parameter in self._module.parameters()):,} parameters"

    def _restore(self) -> str:
        checkpoint = TrainingStateManager(self._folder / "checkpoints").load_latest()
        if checkpoint is None:
            raise DataError("a checkpoint must have been saved, got none; check the disk")
        checkpoint.model.load_into(self._module)
        return "the checkpoint's hashes match"

    def _write_package(self) -> str:
        contents = package_contents(
            self._module,
            self._data,
            name=self._root.name,
            config=self._root.model,
            metrics={},
            config_digest="",
            created_s=SystemClock().now(),
        )
        self._package = ModelPackage.load(write_package(self._folder / "packages", contents, gate=lambda _: None))
        return "written, verified, loaded"

    def _infer(self) -> str:
        with self._package.predictor() as predictor:
            self._package.check_golden(predictor)
        return "the golden rows have their answers"
