"""Preparing: from a source and a configuration to arrays on disk that training gathers from, made once and kept.

The entry's key says everything the content depends on (fingerprints, pipeline with its schema and stage versions,
split, seed, libraries), so a second training on the same data starts at once, and a change of any prepares anew. The
inferred schema is kept under a key of its own, so a hit reads the source only for its fingerprint. Called by `app`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa

from corelane.core.errors import DiskFullError
from corelane.core.types import JsonObject
from corelane.data.appender import FileAppender, MemoryAppender
from corelane.data.arrow_memory import system_allocator
from corelane.data.concerns import Concern, concerns_of
from corelane.data.config import DataConfig, PipelineConfig
from corelane.data.infer import infer_schema
from corelane.data.job import Job
from corelane.data.narrowing import NarrowingRows
from corelane.data.passes import Survey, fill, survey
from corelane.data.pipeline import Pipeline
from corelane.data.prepared import (
    FACTS_FILE,
    PIPELINE_FILE,
    PROFILE_FILE,
    QUARANTINE_FILE,
    PreparedData,
    PreparedPart,
    array_file,
    digest_parts,
    read_prepared,
    write_table,
)
from corelane.data.processor import CPUDataProcessor
from corelane.data.quarantine import Quarantine, open_quarantine
from corelane.data.rules import RowRules
from corelane.data.schema import Schema
from corelane.data.source import DataSource, Tell
from corelane.data.split import PARTS
from corelane.data.spool import spooled
from corelane.data.taken_over import Fittable, TakenOver
from corelane.machine.cpu import Machine
from corelane.observe.log import SystemLogger
from corelane.store.bundle import FileEntry
from corelane.store.durable import temporary_file
from corelane.store.tiers.disk import DiskTier

__all__ = ["PreparedData", "PreparedPart", "prepare"]

_VERSION = 7  # of the passes and the files; raised when the same key would give other content
_SCHEMA_KEYS = {"target", "task", "positive", "separator", "columns", "exclude", "deduplicate"}
_DATA_SHARE = 0.3  # of the memory, when nothing else is said: the data pool's part


def prepare(
    source: DataSource,
    config: DataConfig,
    pipeline: PipelineConfig,
    *,
    seed: int,
    cache: DiskTier,
    quarantine: Path,
    logger: SystemLogger,
    test_source: DataSource | None = None,
    processor: CPUDataProcessor | None = None,
    memory_budget_bytes: int | None = None,
    taken_over: Pipeline | None = None,
) -> PreparedData:
    """The prepared data of `source` under `config` and `pipeline`, from the cache when it is there and whole.

    A remote source is read once, into a local copy (`spool.py`).
    Refused rows are written to the Parquet file `quarantine` (also on a hit). When the cache has no room, also after
    other entries have gone, the arrays are kept in memory if they fit `memory_budget_bytes` (default: 30 % of the
    machine's memory); what the rules of copies and unique values remember must fit there too. `taken_over` is a fitted
    pipeline to use as it is, its schema included, instead of inferring and fitting one.

    Raises `DataError` when the data cannot be used (no rows, too many refused, one class only, a column missing),
    `DiskFullError` with the number of bytes needed, and what the source raises.
    """
    with ExitStack() as owned:
        owned.enter_context(system_allocator())
        if processor is None:
            processor = owned.enter_context(CPUDataProcessor())
        tell = _teller(logger)
        source = owned.enter_context(spooled(source, cache, tell=tell))
        if test_source is not None:
            test_source = owned.enter_context(spooled(test_source, cache, tell=tell))
        unfitted: Fittable
        if taken_over is not None:
            unfitted = TakenOver(taken_over, config, pipeline)
        else:
            unfitted = Pipeline.build(_find_schema(source, config, pipeline, cache, processor), pipeline)
        schema = unfitted.schema
        rules, budget = RowRules.of(config, schema), _memory_budget(memory_budget_bytes)
        job = Job(source, test_source, config, unfitted, seed, processor, rules, budget)
        try:
            entry = cache.open_or_build(
                "prepared", _key(job), lambda directory: _build(job, directory, cache, quarantine, logger)
            )
        except DiskFullError as error:
            logger.data.warning("cache_disk_full", directory=str(cache.directory), reason=str(error))
            return _build_in_memory(job, quarantine, logger, cache.directory)
        data = read_prepared(entry)
        if entry.was_found:
            with temporary_file(quarantine) as copy:
                shutil.copyfile(entry.bundle.path / QUARANTINE_FILE, copy)
        _tell_concerns(data, logger)
        logger.data.info("data_prepared", was_cached=entry.was_found, digest=data.digest, **_sizes(data))
        return data


# --- keys -------------------------------------------------------------------------------------------------------------


def _key(job: Job) -> str:
    test = None if job.test_source is None else asdict(job.test_source.fingerprint())
    has_images = any(column.kind == "image" for column in job.unfitted.schema.columns)
    return _hash(
        {
            "version": _VERSION,
            "libraries": _libraries(has_images),
            "fingerprint": asdict(job.source.fingerprint()),
            "test": test,
            "pipeline": job.unfitted.digest,
            "split": job.config.split.model_dump(mode="json"),
            "rules": job.rules.to_json(),
            "max_rejected": job.config.max_rejected,
            "seed": job.seed,
        }
    )


def _libraries(has_images: bool) -> dict[str, str]:
    """The versions of the libraries that read, compute and decode; of Pillow only where it does."""
    versions = {"numpy": np.__version__, "pyarrow": pa.__version__}
    return {**versions, "pillow": PIL.__version__} if has_images else versions


def _hash(facts: JsonObject) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _find_schema(
    source: DataSource,
    config: DataConfig,
    pipeline: PipelineConfig,
    cache: DiskTier,
    processor: CPUDataProcessor,
) -> Schema:
    """The schema inferred from all of `source`, or the one that was inferred from the same data before."""

    def infer() -> Schema:
        rows = NarrowingRows(source)
        return infer_schema(processor.ahead(rows), config, pipeline, rows.read_only)

    def build(directory: Path) -> None:
        (directory / "schema.json").write_text(json.dumps(infer().to_json()), encoding="utf-8")

    may_have_images = any(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in source.schema().types)
    key = _hash(
        {
            "version": _VERSION,
            "libraries": _libraries(may_have_images),
            "fingerprint": asdict(source.fingerprint()),
            "data": config.model_dump(mode="json", include=_SCHEMA_KEYS),
            "pipeline": pipeline.model_dump(mode="json"),
        }
    )
    try:
        entry = cache.open_or_build("schemas", key, build)
    except DiskFullError:
        return infer()  # `prepare` meets the full disk again and deals with it
    return Schema.from_json(json.loads((entry.bundle.path / "schema.json").read_bytes()))


# --- building ---------------------------------------------------------------------------------------------------------


def _build(job: Job, directory: Path, cache: DiskTier, quarantine: Path, logger: SystemLogger) -> dict[str, FileEntry]:
    """Write the files of a prepared bundle into `directory`; gives what was written of the arrays."""
    appenders: dict[str, FileAppender] = {}
    with open_quarantine(quarantine, job.rules.dropping) as refused:
        found = survey(job, refused)
        cache.room.make(found.num_bytes)
        with ExitStack() as files:

            def make(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], most: int) -> FileAppender:
                path = directory / name
                path.parent.mkdir(exist_ok=True)
                appenders[name] = files.enter_context(FileAppender(path, dtype, shape, max_rows=most))
                return appenders[name]

            kept = fill(job, found, refused, make)
        _tell(job, found, refused, logger)
    for name, table in kept.samples.items():
        write_table(directory / f"{name}.arrow", table)
    facts = {
        "num_rejected": refused.num_rows,
        "num_dropped": refused.dropped.total(),
        "num_deduplicated": found.num_copies,
        "fingerprint": asdict(job.source.fingerprint()),
    }
    (directory / PIPELINE_FILE).write_text(json.dumps(found.pipeline.to_json()), encoding="utf-8")
    (directory / PROFILE_FILE).write_text(json.dumps(kept.profile.to_json(), allow_nan=False), encoding="utf-8")
    (directory / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")
    shutil.copyfile(quarantine, directory / QUARANTINE_FILE)
    return {name: appender.entry for name, appender in appenders.items() if appender.entry is not None}


def _build_in_memory(job: Job, quarantine: Path, logger: SystemLogger, cache_directory: Path) -> PreparedData:
    arrays: dict[str, MemoryAppender] = {}

    def make(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], most: int) -> MemoryAppender:
        return arrays.setdefault(name, MemoryAppender(dtype, shape, max_rows=most))

    with open_quarantine(quarantine, job.rules.dropping) as refused:
        found = survey(job, refused)
        if found.num_bytes > job.budget_bytes:
            raise DiskFullError(
                f"{cache_directory} must have {found.num_bytes} bytes free for the prepared data, got less, and only "
                f"{job.budget_bytes} bytes could be kept in memory; free some space, or set"
                " machine.cache_disk_bytes or machine.cache"
            )
        kept = fill(job, found, refused, make)
        _tell(job, found, refused, logger)
    parts = {part: _collect(part, found.pipeline, arrays) for part in PARTS}
    data = PreparedData(
        pipeline=found.pipeline,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        **kept.samples,
        digest=digest_parts(found.pipeline, parts),
        num_rejected=refused.num_rows,
        num_dropped=refused.dropped.total(),
        num_deduplicated=found.num_copies,
        fingerprint=job.source.fingerprint(),
        profile=kept.profile,
    )
    _tell_concerns(data, logger)
    logger.data.info("data_prepared", was_cached=False, digest=data.digest, kept_in="memory", **_sizes(data))
    return data


def _collect(part: str, pipeline: Pipeline, arrays: Mapping[str, MemoryAppender]) -> PreparedPart:
    def rows(name: int | str) -> Any:
        return arrays[array_file(part, name)].rows

    inputs = {name: rows(index) for index, name in enumerate(pipeline.outputs)}
    return PreparedPart(inputs, rows("target"), rows("positions"))


def _memory_budget(configured: int | None) -> int:
    return int(Machine.detect().memory_bytes * _DATA_SHARE) if configured is None else configured


# --- telling ----------------------------------------------------------------------------------------------------------


def _tell(job: Job, found: Survey, refused: Quarantine, logger: SystemLogger) -> None:
    logger.metrics_collector.record("data", {"read_rows": found.num_read})
    for code, num_rows in sorted(refused.counts.items()):
        logger.metrics_collector.record("data", {"rejected_rows": num_rows, "reason": code})
        logger.data.warning("rows_rejected", reason=code, num_rows=num_rows, quarantine=str(refused.path))
    for code, num_rows in sorted(refused.dropped.items()):
        logger.metrics_collector.record("data", {"dropped_rows": num_rows, "reason": code})
        logger.data.info("rows_dropped", reason=code, num_rows=num_rows)
    if found.num_copies:
        logger.metrics_collector.record("data", {"dropped_rows": found.num_copies, "reason": "copy"})
        logger.data.info("rows_deduplicated", num_rows=found.num_copies, columns=list(job.rules.compared))


def _tell_concerns(data: PreparedData, logger: SystemLogger) -> None:
    """One line for each sort of concern: of a thousand constant columns nobody reads a thousand lines."""
    found: dict[str, list[Concern]] = {}
    for concern in concerns_of(data.profile):
        found.setdefault(concern.code, []).append(concern)
    for code, concerns in found.items():
        columns = [concern.column for concern in concerns]
        logger.data.warning("data_concern", concern=code, columns=columns, reason=concerns[0].reason)


def _teller(logger: SystemLogger) -> Tell:
    return lambda event, fields: logger.data.info(event, **fields)


def _sizes(data: PreparedData) -> dict[str, int]:
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    counts = {key: getattr(data, key) for key in ("num_rejected", "num_dropped", "num_deduplicated")}
    return {**counts, **{f"num_{name}": part.num_rows for name, part in parts.items()}}
