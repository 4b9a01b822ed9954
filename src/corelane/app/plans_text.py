"""A plan as text for a terminal: what was chosen, then a line for each candidate."""

from __future__ import annotations

from corelane.app.tables import cut, facts_text
from corelane.core.types import JsonObject


def plan_text(answer: JsonObject) -> str:
    """The plan's facts, and each candidate with its time and why it won or lost."""
    facts = {
        "plan": answer["file"],
        "key": answer["key"],
        "chosen": answer["chosen_name"],
        "because": answer["reason"],
        "tolerance": f"{answer['tolerance']:.2%} between the losses" if answer["tolerance"] else None,
        "measured with": " ".join(f"{name}={value}" for name, value in answer["environment"].items()) or None,
    }
    width = max((len(candidate["name"]) for candidate in answer["candidates"]), default=0)
    lines = [f"{candidate['name']:<{width}}  {_sentence(candidate)}" for candidate in answer["candidates"]]
    return "\n".join([facts_text(facts), "", *lines])


def _sentence(candidate: JsonObject) -> str:
    """Time and verdict in one sentence."""
    verdict = cut(str(candidate["verdict"]), 240)
    if candidate["step_s"] is None:
        return f"{verdict}."
    start = f" and {candidate['startup_s']:.2g} s to start" if candidate["startup_s"] >= 0.01 else ""
    return f"{candidate['step_s'] * 1e3:.3g} ms a step{start}: {verdict}."
