"""Records of the metadata store as the plain dicts that `app/catalogue.py` answers with; it writes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from corelane.app.run_records import HOST
from corelane.core.types import JsonObject

if TYPE_CHECKING:
    from corelane.store.metadata import MetadataStore
    from corelane.store.metadata_records import Metric, PackageRecord, RunRecord, Serving

LOST_AFTER_S = 900.0  # a run of another host that was not heard of for a quarter of an hour is not running


def brief_of(run: RunRecord, now_s: float) -> JsonObject:
    """One run in short. Times are UTC, `duration_s` is None while it runs."""
    is_lost = run.status == "running" and run.host != HOST and now_s - run.seen_s > LOST_AFTER_S
    end_s = run.finished_s if run.finished_s is not None else (run.seen_s if is_lost else now_s)
    return {
        "name": run.name,
        "key": run.key,
        "title": run.title,
        "status": "interrupted" if is_lost else run.status,
        "started": _utc(run.started_s),
        "finished": _utc(run.finished_s),
        "duration_s": None if run.status == "running" and not is_lost else round(max(0.0, end_s - run.started_s), 3),
        "num_steps": run.num_steps,
        "num_epochs": run.num_epochs,
        "metrics": dict(run.metrics),
        "directory": run.directory,
        "error": run.error,
    }


def data_of(store: MetadataStore, run: RunRecord) -> JsonObject | None:
    """The data set of a run, or None when it was not prepared yet."""
    dataset = store.dataset(run.dataset) if run.dataset is not None else None
    if dataset is None:
        return None
    return {
        "key": run.dataset,
        "fingerprint": f"{dataset.strength}:{dataset.digest}",
        "source": dataset.source,
        "schema": dataset.schema,
        "profile": dataset.profile,
    }


def history_of(store: MetadataStore, run: RunRecord) -> JsonObject:
    """By metric: how many values there are, the first, the last, the least and the greatest, with their steps."""
    found: dict[str, list[Metric]] = {}
    for metric in store.metrics(run.key):
        found.setdefault(metric.name, []).append(metric)
    return {name: _summary(metrics) for name, metrics in found.items()}


def _summary(metrics: Sequence[Metric]) -> JsonObject:
    least, greatest = min(metrics, key=lambda metric: metric.value), max(metrics, key=lambda metric: metric.value)
    last = metrics[-1]
    return {
        "num_values": len(metrics),
        "first": metrics[0].value,
        "last": last.value,
        "last_step": last.step,
        "min": least.value,
        "min_step": least.step,
        "max": greatest.value,
        "max_step": greatest.step,
    }


def package_of(package: PackageRecord) -> JsonObject:
    """One published version."""
    return {**asdict(package), "metrics": dict(package.metrics)}


def serving_of(serving: Serving) -> JsonObject:
    """One server; `is_serving` unless it told its end or its process here is gone."""
    return {
        "url": serving.url,
        "host": serving.host,
        "pid": serving.pid,
        "since": _utc(serving.since_s),
        "until": _utc(serving.until_s),
        "is_serving": serving.until_s is None and (serving.host != HOST or _lives(serving.pid)),
    }


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def differences(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The rows of `table` whose values are not all equal."""
    return {key: values for key, values in table(rows).items() if any(value != values[0] for value in values)}


def table(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By key, the value of each of `rows`; None where one has none."""
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}


def _utc(time_s: float | None) -> str | None:
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
