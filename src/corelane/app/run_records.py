"""Run directories as records of the metadata store: what a run is can be read off its directory alone.

The recorder of a live run and `reindex` read through the same `RunReader`, so that an index that was rebuilt says what
one that was written along says. Secrets are left out here. Nothing is written, and nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from corelane.app.record_files import MAX_FILE_BYTES, bundle_facts, integer, number, numbers, read_file, read_json
from corelane.app.runs import CONFIG_NAME, ERROR_NAME, RESULT_NAME, RUN_NAME, is_held
from corelane.core.config import Section, parse_config
from corelane.core.errors import BundleError, ConfigError, InterruptedRunError
from corelane.core.types import JsonObject
from corelane.store.metadata_records import (
    MAX_METRICS,
    Checkpoint,
    Dataset,
    Metric,
    Record,
    RunCheckpoints,
    RunMetrics,
    RunRecord,
    RunStatus,
    stored_text,
    without_secrets,
)

HOST = socket.gethostname()
HEARTBEAT_S = 60.0  # how often an unchanged run is told of, so that other hosts see that it lives

_SECRET_SECTIONS = frozenset({"headers", "storage_options", "cache_shared_options"})
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_KEY = re.compile(r"[0-9a-f]{32}")
_NOT_METRICS = frozenset({"kind", "step", "epoch", "batch", "from_step"})


class RunReader:
    """Reads one run directory again and again, and returns as records what is new since the last time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problems: list[str] = []
        self.key, self._started_s = _identity(directory)
        self.reset()

    def reset(self) -> None:
        """Return everything anew the next time."""
        self._config: tuple[tuple[int, int], str, JsonObject] | None = None
        self._dataset: Dataset | None = None
        self._pipeline_digest: str | None = None
        self._num_rejected: int | None = None
        self._told: RunRecord | None = None
        self._steps: Sequence[int] | None = None
        self._offset = -1
        self._num_values = 0
        self._history: int | None = None

    def read(self, now_s: float, *, is_over: bool = False) -> list[Record]:
        """What has changed; `is_over` says that nobody trains it any more, which else its lock tells.

        Raises `ConfigError` when the directory is no run, `BundleError` when what it holds is broken.
        """
        self.problems.clear()
        records: list[Record] = []
        if self._dataset is None and (self.directory / "data").is_dir():
            records.append(self._read_data())
        records += self._read_metrics()
        records += self._read_checkpoints()
        run = self._read_run(now_s, is_over=is_over)
        told = self._told
        if told is None or now_s - told.seen_s >= HEARTBEAT_S or replace(told, seen_s=now_s) != run:
            records.append(run)
            self._told = run
        return records

    def _read_run(self, now_s: float, *, is_over: bool) -> RunRecord:
        digest, config = self._read_config()
        status = "interrupted" if (found := status_of(self.directory)) == "running" and is_over else found
        result = read_json(self.directory / RESULT_NAME) if status == "finished" else {}
        error = read_json(self.directory / ERROR_NAME) if status == "failed" else {}
        return RunRecord(
            key=self.key,
            name=self.directory.name,
            title=str(config.get("name", self.directory.name)),
            directory=stored_text(str(self.directory.absolute())),
            host=HOST,
            status=status,
            config_digest=digest,
            config=config,
            started_s=self._started_s,
            seen_s=now_s,
            finished_s=None if status == "running" else _ended_s(self.directory, status),
            seed=integer(config.get("seed")),
            dataset=None if self._dataset is None else self._dataset.key,
            pipeline_digest=self._pipeline_digest,
            num_rejected=self._num_rejected,
            num_steps=integer(result.get("num_steps")),
            num_epochs=integer(result.get("num_epochs")),
            best_step=integer(result.get("best_step")),
            examples_per_s=number(result.get("examples_per_s")),
            seconds=numbers(result.get("seconds")),
            metrics=numbers(result.get("metrics")),
            error=stored_text(str(error["message"])) if "message" in error else None,
        )

    def _read_config(self) -> tuple[str, JsonObject]:
        path = self.directory / CONFIG_NAME
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        if self._config is None or self._config[0] != stamp:
            content = read_file(path)
            values = parse_config(content.decode(errors="replace"), _AnyConfig, name=str(path)).model_dump(mode="json")
            self._config = (stamp, hashlib.sha256(content).hexdigest(), public_config(values))
        return self._config[1:]

    def _read_data(self) -> Dataset:
        folder = self.directory / "data"
        files = bundle_facts(folder, "run-data").files
        facts, pipeline = read_json(folder / "data.json"), read_json(folder / "pipeline.json")
        section = self._read_config()[1].get("data") or {}
        self._pipeline_digest = files["pipeline.json"]["sha256"]
        self._num_rejected = integer(facts.get("num_rejected"))
        self._dataset = Dataset(
            strength=str(facts["fingerprint"]["strength"]),
            digest=str(facts["fingerprint"]["digest"]),
            source=section.get("source") or {},
            schema=pipeline["schema"],
            profile=read_json(folder / "profile.json") if "profile.json" in files else None,
        )
        return self._dataset

    def _read_metrics(self) -> list[Record]:
        path = self.directory / "metrics.jsonl"
        try:
            status = path.stat()
        except FileNotFoundError:
            return []
        is_other = status.st_ino != self._history or status.st_size < self._offset  # a resume puts a new file there
        if is_other:
            self._history, self._offset, self._num_values = status.st_ino, 0, 0
        if status.st_size == self._offset and not is_other:
            return []
        with path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read(MAX_FILE_BYTES)
        lines = lines[: lines.rfind(b"\n") + 1]  # a line that is still being written is read when it is whole
        self._offset += len(lines)
        values = self._values_of(lines.splitlines())[: MAX_METRICS - self._num_values]
        self._num_values += len(values)
        return [RunMetrics(self.key, values, replaces=True)] if is_other else self._more(values)

    def _more(self, values: Sequence[Metric]) -> list[Record]:
        return [RunMetrics(self.key, values)] if values else []

    def _values_of(self, lines: Sequence[bytes]) -> list[Metric]:
        found: dict[tuple[str, int], Metric] = {}
        for line in lines:
            try:
                entry = json.loads(line)
                step, epoch = int(entry["step"]), int(entry["epoch"])
                metrics = [Metric(*item) for item in _items(entry, step, epoch)]
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError, ConfigError):
                self.problems.append(f"{self.directory / 'metrics.jsonl'} holds a line that is no entry: {line[:80]!r}")
                continue
            found.update({(metric.name, metric.step): metric for metric in metrics})
        return list(found.values())

    def _read_checkpoints(self) -> list[Record]:
        folder = self.directory / "checkpoints"
        steps = sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())
        if steps == self._steps or (self._steps is None and not steps):
            return []
        found, best = [], None
        for step in steps:
            try:
                bundle = bundle_facts(folder / str(step), "checkpoint")
                best = read_json(folder / str(step) / "state.json")["counters"]["best_step"]
                found.append(Checkpoint(step, bundle.digest, bundle.num_bytes, is_best=False))
            except (BundleError, KeyError, TypeError, FileNotFoundError) as error:
                self.problems.append(f"{folder / str(step)} is left out: {error}")
        self._steps = steps
        marked = [replace(checkpoint, is_best=checkpoint.step == best) for checkpoint in found]
        return [RunCheckpoints(self.key, marked)]


def status_of(directory: Path) -> RunStatus:
    """How the run stands: a run is running only while a process holds it."""
    if (directory / RESULT_NAME).exists():
        return "finished"
    try:
        code = json.loads((directory / ERROR_NAME).read_bytes())["code"]
    except FileNotFoundError:
        return "running" if is_held(directory) else "interrupted"
    except (ValueError, KeyError, TypeError):
        return "failed"
    return "interrupted" if code == InterruptedRunError.code else "failed"


def state_of(directory: Path) -> tuple[RunStatus, float | None]:
    """How the run stands, and when it ended (None while it runs)."""
    status = status_of(directory)
    return status, None if status == "running" else _ended_s(directory, status)


def run_key(directory: Path) -> str:
    """The run's key: chosen at random when its directory was made."""
    return _identity(directory)[0]


def public_config(values: JsonObject) -> JsonObject:
    """A configuration without what may be secret (values of headers and storage options, parts of URLs) or large."""
    return {key: _public(key, value) for key, value in values.items()}


def _public(key: str, value: Any) -> Any:
    if key in _SECRET_SECTIONS and isinstance(value, Mapping):
        return {name: inner if _VARIABLE.fullmatch(str(inner)) else "…" for name, inner in value.items()}
    if key == "rows" and isinstance(value, list):
        return {"num_rows": len(value)}
    if isinstance(value, Mapping):
        return {name: _public(name, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_public("", inner) for inner in value]
    return without_secrets(value) if isinstance(value, str) else value


class _AnyConfig(Section):
    """A configuration of any release: an index shows it and does not use it."""

    model_config = ConfigDict(extra="allow")


def _identity(directory: Path) -> tuple[str, float]:
    """Key and start of a run; those of a run of an earlier release come from its configuration file."""
    path = directory / RUN_NAME
    try:
        facts = read_json(path)
    except FileNotFoundError:
        config = directory / CONFIG_NAME
        digest = hashlib.sha256(directory.name.encode(errors="replace") + b"\n" + read_file(config))
        return digest.hexdigest()[:32], config.stat().st_mtime
    key, created_s = facts.get("key"), number(facts.get("created_s"))
    if not isinstance(key, str) or _KEY.fullmatch(key) is None or created_s is None:
        raise ConfigError(f"{path} must say a key of 32 digits and created_s, got {facts!r:.80}; restore or remove it")
    return key, created_s


def _ended_s(directory: Path, status: RunStatus) -> float:
    """When it ended: when its last file was written; of a run that was cut off, when it last gave a sign."""
    names = {"finished": (RESULT_NAME,), "failed": (ERROR_NAME,)}
    signs = names.get(status, ("metrics.jsonl", "checkpoints", "data", CONFIG_NAME))
    return max((directory / name).stat().st_mtime for name in signs if (directory / name).exists())


def _items(entry: Mapping[str, Any], step: int, epoch: int) -> list[tuple[str, int, int, float]]:
    values = {name: number(value) for name, value in entry.items() if name not in _NOT_METRICS}
    return [(name, step, epoch, value) for name, value in values.items() if value is not None]
