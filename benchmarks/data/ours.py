"""Our side of every case, through the interfaces that training itself uses; the clock runs without the imports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.data import generate
from benchmarks.data.cases import BATCH_SIZE, LABEL, NUM_CATEGORIES, NUM_THREADS, Case
from benchmarks.data.engine import peak_bytes
from benchmarks.data.pages import drop_from_cache
from corelane.data.config import DataConfig, PipelineConfig
from corelane.data.order import epoch_order
from corelane.data.prepare import prepare
from corelane.data.prepared import PreparedData, PreparedPart
from corelane.data.processor import CPUDataProcessor
from corelane.observe.log import SystemLogger
from corelane.store.tiers.disk import DiskTier

Seen = dict[str, Any]


def run(case: Case, inputs: Mapping[str, str]) -> Seen:
    """The figure of `case`, as `value`, and what else its caller checks."""
    return _CASES[case.name](case, inputs)


def open_arrays(folder: Path) -> PreparedPart:
    """The generated arrays as `PreparedData` has them: memory-mapped."""
    features, target, positions = (
        np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("0", "target", "positions")
    )
    return PreparedPart({"features": features}, target, positions)


# --- preparing --------------------------------------------------------------------------------------------------------


def _prepare(table: str, folder: Path) -> PreparedData:
    """As `app.train` prepares, with the imputations that scikit-learn has; the cache lies in `folder`."""
    from corelane.data.sources.filesystem.source import FileSystemSource

    config = DataConfig.model_validate(
        {
            "source": {"type": "filesystem", "path": table},
            "target": LABEL,
            "split": generate.SPLIT.model_dump(),
        }
    )
    categories = {f"category_{index}": {"impute": "mode"} for index in range(NUM_CATEGORIES)}
    pipeline = PipelineConfig.model_validate({"impute": "mean", "categorical": "ordinal", "columns": categories})
    cache = DiskTier(folder / "cache")
    with SystemLogger(directory=folder, terminal_level="error") as logger, CPUDataProcessor(NUM_THREADS) as processor:
        return prepare(
            FileSystemSource(config.source, cache=cache),
            config,
            pipeline,
            seed=generate.SEED,
            cache=cache,
            quarantine=folder / "quarantine.parquet",
            logger=logger,
            processor=processor,
        )


def _parquet_prepare(case: Case, inputs: Mapping[str, str]) -> Seen:
    """Seconds from the Parquet file to prepared arrays on disk, in an empty cache."""
    del case
    with TemporaryDirectory(dir=inputs["scratch"]) as folder:
        start = time.perf_counter()
        data = _prepare(inputs["table"], Path(folder))
        seconds = time.perf_counter() - start
        return {"value": seconds, "shapes": [list(part.inputs["features"].shape) for part in _parts(data)]}


def _prepare_memory(case: Case, inputs: Mapping[str, str]) -> Seen:
    """The most memory that preparing takes, in MiB: what lies in the process, mapped files included."""
    seen = _parquet_prepare(case, inputs)
    return {"value": peak_bytes() / (1 << 20), "seconds": seen["value"]}


def _second_start(case: Case, inputs: Mapping[str, str]) -> Seen:
    """Seconds until the first batch, in a cache that another process has filled (or this one, the first time)."""
    del case
    start = time.perf_counter()
    data = _prepare(inputs["table"], Path(inputs["cache"]))
    with CPUDataProcessor(NUM_THREADS) as processor:
        part = data.train
        order = epoch_order(generate.SEED, 0, part.num_rows, part.row_bytes)
        batches = processor.batches(part, order, BATCH_SIZE)
        next(batches)
        seconds = time.perf_counter() - start
        batches.close()
    return {"value": seconds}


def _parts(data: PreparedData) -> tuple[PreparedPart, ...]:
    return data.train, data.validation, data.test


# --- reading ----------------------------------------------------------------------------------------------------------


def _postgres_read(case: Case, inputs: Mapping[str, str]) -> Seen:
    """Seconds until all rows lie in memory."""
    from corelane.data.config import DatabaseConfig
    from corelane.data.sources.database.source import DatabaseSource

    source = DatabaseSource(DatabaseConfig(url=inputs["url"], table=inputs["name"]))
    start = time.perf_counter()
    rows = pa.Table.from_batches(source.read_once())
    seconds = time.perf_counter() - start
    return {"value": seconds, "shapes": [[rows.num_rows, case.width]]}


# --- batches ----------------------------------------------------------------------------------------------------------


def _batches_random(case: Case, inputs: Mapping[str, str]) -> Seen:
    """Rows per second as torch tensors, as the trainer takes them: the fastest of several epochs after the first."""
    del case
    from corelane.train.batches import TensorBatches

    part = open_arrays(Path(inputs["arrays"]))
    rates = []
    with CPUDataProcessor(NUM_THREADS) as processor:
        batches = TensorBatches(processor, channels_last=False)
        for epoch in range(int(inputs["epochs"])):
            start, num_rows = time.perf_counter(), 0
            order = epoch_order(generate.SEED, epoch, part.num_rows, part.row_bytes)
            for _, target in batches.of(part, order, BATCH_SIZE, drop_last=True):
                num_rows += len(target)
            rates.append(num_rows / (time.perf_counter() - start))
    return {"value": max(rates[1:])}


def _batches_3x_memory(case: Case, inputs: Mapping[str, str]) -> Seen:
    """Megabytes per second of one epoch that begins with nothing in memory."""
    del case
    folder = Path(inputs["arrays"])
    drop_from_cache(folder.iterdir())
    part = open_arrays(folder)
    start, num_rows = time.perf_counter(), 0
    with CPUDataProcessor(NUM_THREADS) as processor:
        order = epoch_order(generate.SEED, 0, part.num_rows, part.row_bytes)
        for _, target in processor.batches(part, order, BATCH_SIZE):
            num_rows += len(target)
    return {"value": num_rows * part.row_bytes / (time.perf_counter() - start) / 1e6}


# --- training steps ---------------------------------------------------------------------------------------------------


def _augment_cnn(case: Case, inputs: Mapping[str, str]) -> Seen:
    return {"value": train_cnn(case, inputs, {"flip": 0.5, "shift": 4, "cutout": 8})}


def train_cnn(case: Case, inputs: Mapping[str, str], augment: Mapping[str, Any]) -> float:
    """Examples per second of the CNN of `benchmarks.training`, the fastest epoch after the first."""
    from benchmarks.training.cases import CASES as NETS
    from benchmarks.training.data import fashion_mnist
    from benchmarks.training.ours import epoch_rates

    num_rows, net = int(inputs["num_rows"]), NETS["cnn-b64"]
    if case.width == generate.FASHION_SIDE:
        images, labels = (values[:num_rows] for values in fashion_mnist(Path(inputs["images"])))
    else:
        images, labels = generate.images(num_rows, case.width)
    return max(epoch_rates(net, {"image": images, "label": labels}, int(inputs["epochs"]), augment=augment)[1:])


_CASES: Mapping[str, Callable[[Case, Mapping[str, str]], Seen]] = {
    "parquet-prepare": _parquet_prepare,
    "prepare-memory": _prepare_memory,
    "second-start": _second_start,
    "postgres-read": _postgres_read,
    "batches-random": _batches_random,
    "batches-random-784": _batches_random,
    "batches-3x-memory": _batches_3x_memory,
    "augment-cnn": _augment_cnn,
    "augment-cnn-32x32": _augment_cnn,
}
