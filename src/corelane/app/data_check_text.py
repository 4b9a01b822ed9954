"""The answer of `app/data_check.py` as text for a terminal. It formats, and asks nothing."""

from __future__ import annotations

from typing import Any

from corelane.app.data_check_values import distinct_text, kind_text, missing_text, share_text, sparkline, values_text
from corelane.app.tables import cut, facts_text, table_text
from corelane.core.types import JsonObject

MAX_SHOWN = 100  # columns, faults and drifts; `--json` and `--html` have all of them
MAX_LINE = 400  # characters of one concern or problem


def check_text(answer: JsonObject, *, width: int = 140) -> str:
    """Counts, a row a column, refused rows, drift, then what to think about and what stands in the way."""
    parts = [facts_text(_facts(answer))]
    if answer["columns"]:
        parts.append(_columns(answer, width))
    if answer["faults"]:
        parts.append("rows at fault\n" + _faults(answer, width))
    if answer["drift"] is not None:
        parts.append(f"drift from {cut(answer['against'], MAX_LINE)}\n" + _drift(answer, width))
    words = [f"note: {one['reason']}" for one in answer["concerns"][:MAX_SHOWN]]
    words += [f"problem: {one['reason']}" for one in answer["problems"][:MAX_SHOWN]]
    if words:
        parts.append("\n".join(cut(line, MAX_LINE) for line in words))
    parts.append("usable: yes" if answer["usable"] else "usable: no, a training could not begin; see the problems")
    return "\n\n".join(parts)


def _facts(answer: JsonObject) -> JsonObject:
    target = answer["target"]
    whole = answer["num_rows"]
    return {
        "data": answer["source"],
        "target": target if target is None or answer["task"] is None else f"{target} ({answer['task']})",
        "rows": f"{whole:,}",
        "kept": f"{answer['num_kept']:,} ({share_text(answer['num_kept'], whole)})",
        "refused": _counted(answer["num_refused"], whole),
        "dropped": _counted(answer["num_dropped"], whole),
        "copies": None if answer["num_copies"] is None else f"{answer['num_copies']:,}",
        "columns": f"{answer['num_columns']:,}",
        "profile": answer.get("saved"),
        "page": answer.get("page"),
    }


def _counted(count: int, whole: int) -> str | None:
    return f"{count:,} ({share_text(count, whole)})" if count else None


def _columns(answer: JsonObject, width: int) -> str:
    faults: dict[str, int] = {}
    for fault in answer["faults"]:
        faults[fault["column"]] = faults.get(fault["column"], 0) + fault["num_rows"]
    header = ["column", "kind", "missing", "distinct", "smallest … mean … largest, or most frequent", "distribution"]
    rows: list[list[Any]] = [
        [
            column["name"] + (" (target)" if column["name"] in answer["targets"] else ""),
            kind_text(column),
            missing_text(column),
            distinct_text(column),
            values_text(column),
            sparkline(column),
        ]
        for column in answer["columns"][:MAX_SHOWN]
    ]
    if faults:
        header.append("at fault")
        rows = [
            [*row, faults.get(column["name"]) or None] for row, column in zip(rows, answer["columns"], strict=False)
        ]
    left = answer["num_columns"] - len(rows)
    return table_text(header, rows, width) + (f"\n… and {left:,} more columns" if left > 0 else "")


def _faults(answer: JsonObject, width: int) -> str:
    rows = [
        [
            fault["column"] or "(the row)",
            fault["code"],
            fault["num_rows"],
            ", ".join(map(str, fault["row_numbers"]))
            + (", …" if fault["num_rows"] > len(fault["row_numbers"]) else ""),
            "dropped" if fault["is_dropped"] else "refused",
            fault["reason"],
        ]
        for fault in answer["faults"][:MAX_SHOWN]
    ]
    return table_text(["column", "code", "rows", "row numbers", "", "the first one"], rows, width)


def _drift(answer: JsonObject, width: int) -> str:
    rows = [
        [
            drift["name"],
            drift["verdict"],
            None if drift["psi"] is None else f"{drift['psi']:.3f}",
            f"{100 * drift['missing_change']:+.1f}" if drift["missing_change"] else None,
            ", ".join(drift["new_texts"]) or None,
        ]
        for drift in answer["drift"][:MAX_SHOWN]
    ]
    return table_text(["column", "verdict", "PSI", "missing, points", "new categories"], rows, width)
