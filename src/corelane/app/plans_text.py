"""A plan as text for a terminal: what was chosen, then a line for each candidate."""

from __future__ import annotations

from corelane.app.tables import cut, facts_text, table_text
from corelane.core.types import JsonObject
from corelane.machine.optimizer import duration_text

WIDTH = 140


def plan_text(answer: JsonObject) -> str:
    """The plan's facts, and each candidate with its time and why it won or lost; both plans of a package."""
    if "plans" in answer:
        return "\n\n".join(f"for {name}\n{plan_text(plan)}" for name, plan in answer["plans"].items())
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
    return f"{duration_text(candidate['step_s'])} a {_step_of(candidate)}{start}: {verdict}."


def _step_of(candidate: JsonObject) -> str:
    """What was timed: a step of training, a call with one row, or one of many rows."""
    fields = candidate["candidate"]
    if "runtime" not in fields:
        return "step"
    return "call" if fields["batch"] == 1 and fields["streams"] == 1 else "row"


def compared_text(answer: JsonObject) -> str:
    """What two plans chose, and each candidate's time in both."""
    one, other = answer["plans"]
    differences = {name: f"{mine} | {theirs}" for name, (mine, theirs) in answer["differs"].items()}
    facts = {"first": f"{one['chosen_name']} ({one['file']})", "second": f"{other['chosen_name']} ({other['file']})"}
    rows = [[name, *(_time(step_s) for step_s in times)] for name, times in answer["candidates"].items()]
    return f"{facts_text({**facts, **differences})}\n\n{table_text(('candidate', 'first', 'second'), rows, WIDTH)}"


def _time(step_s: float | None) -> str:
    return "" if step_s is None else duration_text(step_s)
