"""The answer of `app/data_check.py` as one self-contained HTML page: the same numbers, with a drawing a column."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePath

from corelane.app.data_check_values import (
    distinct_text,
    ends_text,
    kind_text,
    missing_text,
    share_text,
    value_text,
    values_text,
)
from corelane.core.types import JsonObject
from corelane.observe.report import Bars, Cell, Facts, Histogram, Note, Section, Table, render_report
from corelane.observe.text import one_line

MAX_DRAWN = 200  # columns: a page of a thousand drawings helps nobody
MAX_ROWS = 1000  # of one table


def page_of(answer: JsonObject) -> str:
    """The page, as text."""
    task = "" if answer["task"] is None else f", {answer['task']}"
    subtitle = "no target" if answer["target"] is None else f"target {answer['target']}{task}"
    return render_report(f"Data check of {PurePath(answer['source']).name}", subtitle, list(_sections(answer)))


def _sections(answer: JsonObject) -> Iterator[Section]:
    yield Facts("The data", list(_facts(answer)))
    if answer["problems"]:
        yield Note(
            "A training could not begin", [one["reason"] for one in answer["problems"][:MAX_ROWS]], is_warning=True
        )
    if answer["concerns"]:
        yield Note("Worth a thought", [one["reason"] for one in answer["concerns"][:MAX_ROWS]])
    if answer["drift"] is not None:
        yield _drift(answer)
    if answer["columns"]:
        yield _columns(answer)
    if answer["faults"]:
        yield _faults(answer)
    yield from (drawing for column in answer["columns"][:MAX_DRAWN] for drawing in _drawing(column))


def _reasons(entries: list[JsonObject]) -> list[str]:
    return [entry["reason"] for entry in entries[:MAX_ROWS]]


def _facts(answer: JsonObject) -> Iterator[tuple[str, Cell]]:
    whole = answer["num_rows"]
    yield "rows", f"{whole:,}"
    yield "kept", f"{answer['num_kept']:,}"
    refused = answer["num_refused"]
    yield "refused", f"{refused:,} ({share_text(refused, whole)})" if refused else "0"
    if answer["num_dropped"]:
        yield "dropped", f"{answer['num_dropped']:,}"
    if answer["num_copies"] is not None:
        yield "copies", f"{answer['num_copies']:,}"
    yield "columns", f"{answer['num_columns']:,}"
    yield "usable", "yes" if answer["usable"] else "no"


def _columns(answer: JsonObject) -> Table:
    rows = [
        [one_line(column["name"]), kind_text(column), missing_text(column), distinct_text(column), values_text(column)]
        for column in answer["columns"][:MAX_ROWS]
    ]
    names = ["column", "kind", "missing", "distinct", "smallest … mean … largest, or most frequent"]
    return Table("Columns", names, rows)


def _faults(answer: JsonObject) -> Table:
    rows = [
        [
            fault["column"] or "the row",
            fault["code"],
            fault["num_rows"],
            ", ".join(f"{number:,}" for number in fault["row_numbers"]),
            "dropped" if fault["is_dropped"] else "refused",
            fault["reason"],
        ]
        for fault in answer["faults"][:MAX_ROWS]
    ]
    return Table("Rows at fault", ["column", "code", "rows", "row numbers", "are", "the first one"], rows)


def _drift(answer: JsonObject) -> Table:
    rows = [
        [
            drift["name"],
            drift["verdict"],
            None if drift["psi"] is None else f"{drift['psi']:.3f}",
            f"{100 * drift['missing_change']:+.1f}",
            ", ".join(drift["new_texts"]),
        ]
        for drift in answer["drift"][:MAX_ROWS]
    ]
    note = "PSI: population stability index. Below 0.1 nothing has moved, from 0.25 on the column is another."
    names = ["column", "verdict", "PSI", "missing, points", "new categories"]
    return Table(f"Drift from {PurePath(answer['against']).name}", names, rows, note=note)


def _drawing(column: JsonObject) -> Iterator[Section]:
    missing = f", {missing_text(column)} missing" if column["num_missing"] else ""
    if column["numbers"] is not None:
        numbers = column["numbers"]
        edges = [value_text(column, edge) for edge in numbers["edges"]]
        bins = [f"{low} to {high}" for low, high in pairwise(edges)]
        num_looked_at = sum(numbers["counts"])
        present = column["num_rows"] - column["num_missing"]
        sampled = "" if num_looked_at == present else f", {num_looked_at:,} of {present:,} values drawn"
        yield Histogram(
            one_line(column["name"]),
            bins,
            numbers["counts"],
            *ends_text(column),
            note=f"{column['kind']}{missing}{sampled}",
        )
    elif column["top"]:
        labels, counts = [one_line(text) for text, _ in column["top"]], [count for _, count in column["top"]]
        if column["num_other"]:
            labels.append("(all others)")
            counts.append(column["num_other"])
        word = "category" if column["num_distinct"] == 1 else "categories"
        yield Bars(one_line(column["name"]), labels, counts, note=f"{distinct_text(column)} {word}{missing}")
