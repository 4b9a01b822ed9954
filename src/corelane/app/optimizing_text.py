"""What `corelane optimize` found, as a table for a terminal and as a page with the picture of quality over speed."""

from __future__ import annotations

from typing import Any

from corelane.app.tables import facts_text, table_text
from corelane.core.types import JsonObject
from corelane.machine.optimizer import duration_text
from corelane.observe.report import Note, Scatter, Table, render_report

WIDTH = 160
TRIED = 40  # the fastest, on the page; `corelane plan show` has all
_HEADER = ("graph", "quality", "drop", "size", "p50 at batch 1", "rows/s", "what became of it")


def optimized_text(answer: JsonObject) -> str:
    """The table of graphs, and what was chosen for each objective and why."""
    chosen = {objective: plan["reason"] for objective, plan in answer["plans"].items()}
    facts = {"package": answer["package"], **chosen, "report": answer.get("report")}
    speeds = {one["graph"]: one["speed"] or "not timed" for one in answer["graphs"]}
    table = table_text(_HEADER, [_row(one) for one in answer["graphs"]], WIDTH)
    return f"{table}\n\n{facts_text(speeds)}\n\n{facts_text(facts)}"


def optimized_page(answer: JsonObject) -> str:
    """The same as a page, with each candidate that was timed."""
    timed = [one for one in answer["graphs"] if one["rows_per_s"] is not None]
    picture = Scatter(
        "Quality over speed",
        "rows a second, each graph at its best",
        f"quality on {answer['judged_rows']} rows",
        [one["rows_per_s"] for one in timed],
        [one["quality"] for one in timed],
        names=[one["graph"] for one in timed],
    )
    reasons = [f"For {objective}: {plan['reason']}." for objective, plan in answer["plans"].items()]
    tables = [
        Table(f"Tried for {objective}", ("candidate", "time", "what became of it"), _tried(trials))
        for objective, trials in answer["trials"].items()
    ]
    reasons += [f"{one['graph']}: {one['verdict']}; {one['speed'] or 'not timed'}." for one in answer["graphs"]]
    graphs = Table("Graphs", _HEADER, [_row(one) for one in answer["graphs"]])
    return render_report("Optimised", answer["package"], [Note("Chosen", reasons), graphs, picture, *tables])


def _row(one: JsonObject) -> list[Any]:
    p50, rows = one["p50_us"], one["rows_per_s"]
    return [
        one["graph"],
        f"{one['quality']:.4f}",
        f"{one['drop']:.2%}",
        f"{one['bytes'] / 1e6:.3g} MB ({one['size']:.2f}x)",
        "" if p50 is None else duration_text(p50 / 1e6),
        "" if rows is None else f"{rows:,.0f}",
        one["verdict"],
    ]


def _tried(trials: list[list[Any]]) -> list[list[Any]]:
    timed = sorted((trial for trial in trials if trial[1] is not None), key=lambda trial: trial[1])
    return [[name, duration_text(step_s), verdict] for name, step_s, verdict in timed[:TRIED]]
