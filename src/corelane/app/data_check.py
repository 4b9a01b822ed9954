"""`corelane data check`: what is in some data, what training would refuse of it, and how far it moved from a profile.

Everything is told, the first problem does not end it. The answer is plain JSON; `data_check_text.py` and
`data_check_page.py` show it. Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from corelane.app.config import RootConfig, cache_directory, data_section, load_root, resolved
from corelane.app.data_check_page import page_of
from corelane.app.sources import open_source
from corelane.core.config import parse_config
from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.data.concerns import concerns_of
from corelane.data.config import DataConfig, source_values
from corelane.data.dataset_profile import DataProfile
from corelane.data.drift import drift_from
from corelane.data.inspection import Fault, Inspection, inspect_source
from corelane.data.processor import CPUDataProcessor
from corelane.data.spool import spooled
from corelane.machine.cpu import Machine
from corelane.store.bundle import write_atomic
from corelane.store.metadata_records import without_secrets
from corelane.store.tiers.disk import DiskTier

MAX_PROFILE_BYTES = 64 << 20  # larger than a profile of the most columns that one holds

_CONFIG_ENDINGS = (".yaml", ".yml")
_NO_TARGET = "-"  # stands in the place of the target, which a configuration must have; it is never looked up


def check(
    source: str,
    overrides: Sequence[str] = (),
    *,
    target: str | None = None,
    against: Path | None = None,
    save: Path | None = None,
    page: Path | None = None,
) -> JsonObject:
    """Read `source` (a path, glob or URI, or a configuration) and say what is in it.

    `against` is a profile to compare with, `save` where to write this one, `page` where to write it as HTML. Returns
    counts, faults, concerns, problems, the columns and `usable`: whether a training could begin. Without a `target`
    all columns are features.

    Raises `ConfigError`, `DataError`, `StateError` for a broken profile, and what the source raises.
    """
    for path in (save, page):
        if path is not None and path.is_dir():
            raise ConfigError(f"--save and --html must name files, got the folder {path}; give a name in it")
    reference = None if against is None else _read_profile(against)
    root, targets = _configured(source, overrides, target)
    section = data_section(root)
    found = _inspect(root, section, targets)
    answer = _answer(source, section, targets, found)
    if reference is not None and found.profile is not None and found.profiler is not None:
        drifts = drift_from(reference, found.profile, found.profiler)
        answer |= {"against": str(against), "drift": [asdict(drift) for drift in drifts]}
    if save is not None and found.profile is not None:
        write_atomic(save, json.dumps(found.profile.to_json(), allow_nan=False).encode())
        answer["saved"] = str(save)
    if page is not None:
        write_atomic(page, page_of(answer).encode())
        answer["page"] = str(page)
    return answer


def _configured(source: str, overrides: Sequence[str], target: str | None) -> tuple[RootConfig, tuple[str, ...]]:
    """The configuration to check under, and the target columns, if there are some."""
    if source.endswith(_CONFIG_ENDINGS) and "://" not in source:
        root = load_root(Path(source), [*overrides, *([] if target is None else [f"data.target={json.dumps(target)}"])])
        return root, data_section(root).targets
    values = {"name": "check", "data": {"source": source_values(source), "target": target or _NO_TARGET}}
    root = parse_config(yaml.safe_dump(values), RootConfig, overrides, name="the source and --set")
    named = data_section(root).targets
    return resolved(root, Path.cwd()), () if target is None and named == (_NO_TARGET,) else named


def _inspect(root: RootConfig, section: DataConfig, targets: Sequence[str]) -> Inspection:
    budget = Machine.detect().budget(root.machine)
    cache = DiskTier(cache_directory(root), root.machine.cache_disk_bytes)
    with (
        CPUDataProcessor(num_workers=budget.threads) as processor,
        spooled(open_source(section.source, cache=cache), cache) as source,
    ):
        return inspect_source(
            source, section, root.pipeline, targets, processor=processor, budget_bytes=budget.data_bytes
        )


def _answer(source: str, section: DataConfig, targets: Sequence[str], found: Inspection) -> JsonObject:
    profile = found.profile
    return {
        "source": without_secrets(source),
        "target": ", ".join(targets) or None,
        "targets": list(targets),
        "task": None if profile is None else profile.task,
        "num_rows": found.num_rows,
        "num_kept": found.num_kept,
        "num_refused": found.num_refused,
        "num_dropped": found.num_dropped,
        "num_copies": None if section.deduplicate is False else found.num_copies,
        "num_columns": 0 if profile is None else profile.num_columns,
        "columns": [] if profile is None else profile.to_json()["columns"],
        "faults": [_fault(fault) for fault in found.faults],
        "concerns": [] if profile is None else [asdict(concern) for concern in concerns_of(profile)],
        "problems": [asdict(problem) for problem in found.problems],
        "drift": None,
        "usable": not found.problems,
    }


def _fault(fault: Fault) -> JsonObject:
    return {
        "column": fault.column,
        "code": fault.code,
        "reason": fault.reason,
        "num_rows": fault.num_rows,
        "row_numbers": [position + 1 for position in fault.positions],
        "is_dropped": fault.is_dropped,
    }


def _read_profile(path: Path) -> DataProfile:
    try:
        if path.stat().st_size > MAX_PROFILE_BYTES:
            raise ConfigError(f"{path} must be a profile of at most {MAX_PROFILE_BYTES} bytes, got a larger file")
        data: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"--against must be a profile that `corelane data check --save` or a training wrote, got {path}: {error}"
        ) from error
    return DataProfile.from_json(data)
