"""The answers of `app/cache.py` as text for a terminal. It formats, and asks nothing."""

from __future__ import annotations

from typing import Any

from corelane.app.tables import table_text
from corelane.core.types import JsonObject

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def stats_text(answer: JsonObject, *, width: int = 120) -> str:
    """`stats`: a line a tier, a table of its kinds."""
    parts = []
    for tier in answer["tiers"]:
        bound = "no bound" if tier["limit_bytes"] is None else f"of {size_text(tier['limit_bytes'])}"
        entries = f"{tier['num_entries']} entries, {size_text(tier['num_bytes'])} {bound}"
        parts.append(f"{tier['tier']}  {tier['where']}\n  {entries}")
        rows = [_row(kind) for kind in tier["kinds"]]
        if rows:
            parts.append(table_text(["kind", "entries", "size", "in use", "last used"], rows, width))
    return "\n".join(parts)


def _row(kind: JsonObject) -> list[Any]:
    size = size_text(kind["num_bytes"])
    return [kind["kind"], kind["num_entries"], size, kind.get("num_in_use"), kind.get("last_used")]


def verify_text(answer: JsonObject) -> str:
    """`verify`: a line a broken entry, and what to do with it."""
    lines = [f"{answer['num_entries']} entries, {size_text(answer['num_bytes'])}: {len(answer['broken'])} broken"]
    for entry in answer["broken"]:
        state = "removed" if entry["is_removed"] else "--repair removes what is Corelane's and not in use"
        lines.append(f"  {entry['tier']} {entry['entry']}: {entry['reason']} ({state})")
    return "\n".join(lines)


def clear_text(answer: JsonObject) -> str:
    """`clear`: what went, and what is in use."""
    lines = [f"removed {answer['num_removed']} entries, {size_text(answer['num_bytes'])}"]
    return "\n".join([*lines, *(f"  in use, kept: {name}" for name in answer["in_use"])])


def size_text(num_bytes: int) -> str:
    """`num_bytes` in the largest unit that leaves at least 1 of it."""
    size, unit = float(num_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 100 else f"{size:.1f} {_UNITS[unit]}"
