"""The process that `test_kill_prepare.py` kills: it prepares the rows of a folder. Not a test itself."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from corelane.data.config import DataConfig, FileSystemConfig, PipelineConfig
from corelane.data.prepare import prepare
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.observe.log import SystemLogger
from corelane.store.tiers.disk import DiskTier

SOURCE = FileSystemConfig(path="rows.csv")
CONFIG = DataConfig(source=SOURCE, target="grade")
LIMIT_BYTES = 400_000  # two entries of about 170 kB


def prepared(folder: Path, seed: int) -> str:
    """Prepare the rows of `folder` in its cache; the digest of what came out."""
    cache = DiskTier(folder / "cache", LIMIT_BYTES)
    with SystemLogger(stream=io.StringIO()) as logger:
        data = prepare(
            FileSystemSource(SOURCE, folder, cache=cache),
            CONFIG,
            PipelineConfig(),
            seed=seed,
            cache=cache,
            quarantine=folder / "quarantine.parquet",
            logger=logger,
        )
    return data.digest


if __name__ == "__main__":
    sys.stdout.write("begins")
    sys.stdout.flush()
    prepared(Path(sys.argv[1]), seed=7)
