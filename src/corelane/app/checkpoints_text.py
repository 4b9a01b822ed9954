"""The answers of `checkpoints.py` and `replay.py` as text for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from corelane.app.tables import table_text
from corelane.core.types import JsonObject


def list_text(answer: JsonObject, *, width: int = 120) -> str:
    """A line a checkpoint; what was set aside, and who holds the run."""
    rows = [_row(one) for one in answer["checkpoints"]]
    header = ["step", "epoch", "validation loss", "best step", "bytes", "saved"]
    parts = [table_text(header, rows, width) if rows else f"{answer['run']} has no checkpoints"]
    parts += [f"set aside as broken: {name}" for name in answer["set_aside"]]
    if answer["held_by"]:
        parts.append(f"last held by {answer['held_by']}")
    return "\n".join(parts)


def verify_text(answer: JsonObject) -> str:
    """Each checkpoint with its verdict."""
    lines = [f"{step}  whole" for step in answer["whole"]]
    lines += [f"{one['step']}  BROKEN  {one['reason']}" for one in answer["broken"]]
    return "\n".join(lines or [f"{answer['run']} has no checkpoints"])


def prune_text(answer: JsonObject) -> str:
    """What went and what stayed."""
    removed = ", ".join(map(str, answer["removed"])) or "none"
    kept = ", ".join(map(str, answer["kept"])) or "none"
    return f"removed: {removed} ({answer['freed_bytes']:,} bytes)\nkept: {kept}"


def replay_text(answer: JsonObject) -> str:
    """PASS or FAIL, and the hash of each file."""
    verdict = "PASS" if answer["is_equal"] else "FAIL"
    steps = f"steps {answer['from_step']} to {answer['to_step']}, {answer['compared']}"
    lines = [f"{verdict}  {answer['run']}  {steps}"]
    lines += [f"  {name}  {digest}" for name, digest in answer["sha256"].items()]
    lines += [f"  differs: {name}" for name in answer["differences"]]
    return "\n".join(lines)


def _row(one: JsonObject) -> list[Any]:
    if "reason" in one:
        return [one["step"], one["reason"], None, None, one["bytes"], None]
    saved = datetime.fromtimestamp(one["saved_at_s"], UTC).isoformat(timespec="seconds")
    return [one["step"], one["epoch"], one["validation_loss"], one["best_step"] or None, one["bytes"], saved]
