"""The answers of `app/catalogue.py` as text for a terminal: aligned tables, one line a fact.

Everything that comes from a user's data or files is made safe for a terminal first. It formats, and asks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corelane.app.tables import cut, facts_text, table_text
from corelane.core.types import JsonObject

MAX_METRICS_SHOWN = 2  # of a run in a list: the first two qualities; `runs show` has all


def runs_text(answer: JsonObject, *, width: int = 120) -> str:
    """`list_runs` as a table, newest first."""
    if not answer["runs"]:
        return _joined("no runs yet", answer["notes"])
    rows = [
        [
            run["name"],
            run["status"],
            run["started"],
            _duration(run["duration_s"]),
            run["num_steps"],
            _best(run["metrics"]),
        ]
        for run in answer["runs"]
    ]
    return _joined(table_text(["run", "status", "started", "took", "steps", "reached"], rows, width), answer["notes"])


def run_text(answer: JsonObject, *, width: int = 120) -> str:
    """`show_run`: its facts, then tables of metrics, checkpoints and packages."""
    data = answer["data"] or {}
    facts = {
        "run": f"{answer['name']} ({answer['key']})",
        "status": answer["status"],
        "error": answer["error"],
        "started": answer["started"],
        "took": _duration(answer["duration_s"]),
        "steps": answer["num_steps"],
        "best step": answer["best_step"],
        "seed": answer["seed"],
        "source": _source(data.get("source")),
        "data": data.get("fingerprint"),
        "rows rejected": answer["num_rejected"],
        "resume": certificate_text(answer["resume_certificate"]),
        "directory": answer["directory"],
    }
    parts = [facts_text(facts)]
    if answer["history"]:
        names = ["first", "last", "min", "min_step", "max", "max_step"]
        rows = [[name, *(values[key] for key in names)] for name, values in answer["history"].items()]
        parts.append(table_text(["metric", "first", "last", "least", "at step", "greatest", "at step"], rows, width))
    if answer["checkpoints"]:
        parts.append(_checkpoints(answer["checkpoints"], width))
    if answer["packages"]:
        rows = [[f"{one['name']}/{one['version']}", one["created"], one["directory"]] for one in answer["packages"]]
        parts.append(table_text(["package", "created", "directory"], rows, width))
    return _joined("\n".join(parts), answer["notes"])


def certificate_text(certificate: JsonObject | None) -> str | None:
    """What `corelane verify-resume` found last."""
    if certificate is None:
        return None
    verdict = "exact" if certificate.get("is_equal") else "NOT exact"
    return f"{verdict}, steps {certificate.get('from_step')} to {certificate.get('to_step')} replayed"


def comparison_text(answer: JsonObject, *, width: int = 120) -> str:
    """`compare_runs`: a column a run, a row a metric, a fact of the data, a differing key of the configuration."""
    header = ["", *(run["name"] for run in answer["runs"])]
    rows: list[list[Any]] = [["status", *(run["status"] for run in answer["runs"])]]
    for part in ("metrics", "data", "config"):
        rows += [[f"{part}: {key}", *values] for key, values in answer[part].items()]
    return _joined(table_text(header, rows, width), answer["notes"])


def lineage_text(answer: JsonObject, *, width: int = 120) -> str:
    """`lineage` as a chain, each line one step deeper than what it was made from."""
    run, data = answer["run"], answer["data"]
    steps = [
        f"source {_source(answer['source'])}" if data else "source unknown",
        f"data {data['fingerprint']}" if data else "data unknown",
        f"run {run['name']} ({run['status']}, {run['started']})" if run else "run unknown here",
    ]
    lines = ["  " * depth + step for depth, step in enumerate(steps)]
    used = {package["checkpoint"] for package in answer["packages"]}
    for checkpoint in answer["checkpoints"]:
        lines.append(f"      checkpoint {checkpoint['step']}{' (best)' * checkpoint['is_best']}")
        if checkpoint["digest"] in used:
            lines += _packages(answer["packages"], {checkpoint["digest"]})
    shown = {checkpoint["digest"] for checkpoint in answer["checkpoints"]}
    lines += _packages(answer["packages"], used - shown)
    return _joined("\n".join(cut(line, width) for line in lines), answer["notes"])


def reindex_text(answer: JsonObject, *, width: int = 120) -> str:
    """`reindex`: how much there is, and what was left out."""
    first = f"indexed {answer['num_runs']} runs and {answer['num_packages']} packages"
    return "\n".join([first, *(cut(f"  {problem}", 4 * width) for problem in answer["problems"])])


def _packages(packages: Sequence[JsonObject], checkpoints: set[str | None]) -> list[str]:
    lines = []
    for package in packages:
        if package["checkpoint"] in checkpoints:
            lines.append(f"        package {package['name']}/{package['version']} ({package['created']})")
            lines += [
                f"          served at {serving['url']} on {serving['host']} since {serving['since']}"
                + (f" until {serving['until']}" if serving["until"] else "" if serving["is_serving"] else ", gone")
                for serving in package["servings"]
            ]
    return lines


def _checkpoints(checkpoints: Sequence[JsonObject], width: int) -> str:
    rows = [
        [one["step"], f"{one['num_bytes']:,}", "yes" if one["is_best"] else "", one["digest"][:12]]
        for one in checkpoints
    ]
    return table_text(["checkpoint", "bytes", "best", "digest"], rows, width)


def _joined(text: str, notes: Sequence[str]) -> str:
    return "\n".join([text, *(cut(f"note: {note}", 4096) for note in notes)])


def _source(source: JsonObject | None) -> str:
    if not source:
        return "unknown"
    where = source.get("path") or source.get("url") or source.get("table")
    return f"{source.get('type', 'unknown')} {where}" if where else str(source.get("type", "unknown"))


def _best(metrics: dict[str, float]) -> str:
    """The test part's figures before the validation part's, qualities before losses."""
    names = sorted(metrics, key=lambda name: (not name.startswith("test_"), name.endswith("_loss"), name))
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in names[:MAX_METRICS_SHOWN])


def _duration(duration_s: float | None) -> str | None:
    if duration_s is None:
        return None
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{duration_s:.1f} s" if duration_s < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
