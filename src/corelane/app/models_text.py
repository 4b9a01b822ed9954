"""The answers of `models.py` as text for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from corelane.app.tables import facts_text, table_text
from corelane.core.types import JsonObject

MOST_VERSIONS = 8  # named in one cell


def list_text(answer: JsonObject, *, width: int = 120) -> str:
    """A line a model."""
    rows = [[one["name"], _numbers(one["versions"]), _named(one["aliases"])] for one in answer["models"]]
    if not rows:
        return f"{answer['registry']} has no models; `corelane models publish` adds one"
    return table_text(["model", "versions", "aliases"], rows, width)


def show_text(answer: JsonObject, *, width: int = 120) -> str:
    """A line a version, then a line an alias with what it named before."""
    rows = [_row(one) for one in answer["versions"]]
    parts = [table_text(["version", "aliases", "state", "created", "bytes", "quality"], rows, width)]
    for name, alias in answer["aliases"].items():
        before = f", before {_numbers(alias['before'])}" if alias["before"] else ""
        parts.append(f"{name}: version {alias['version']} since {_time(alias['since_s'])}{before}")
    return "\n".join(parts)


def changed_text(answer: JsonObject) -> str:
    """What is so now."""
    facts = {
        "model": answer["name"],
        "version": answer.get("version"),
        "state": _state(answer) or None,
        "aliases": _named(answer["aliases"]) or "none",
    }
    return facts_text(facts)


def _row(one: JsonObject) -> list[Any]:
    if "reason" in one:
        return [one["version"], ", ".join(one["named"]), "BROKEN", None, None, one["reason"]]
    quality = " ".join(f"{name} {value:.4g}" for name, value in list(one["metrics"].items())[:3])
    return [one["version"], ", ".join(one["named"]), _state(one), one["created"], one["bytes"], quality]


def _state(one: JsonObject) -> str:
    if one.get("removed_at_s") is not None:
        return f"to be removed from {_time(one['removed_at_s'])} on"
    return "archived" if one.get("archived_at_s") is not None else ""


def _named(aliases: JsonObject) -> str:
    return ", ".join(f"{alias} {version}" for alias, version in aliases.items())


def _numbers(versions: list[int]) -> str:
    hidden = "... " if len(versions) > MOST_VERSIONS else ""
    return hidden + " ".join(map(str, versions[-MOST_VERSIONS:]))


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
