"""What a load came to, in figures: rates, statuses, percentiles of latencies that count from when requests were due."""

from __future__ import annotations

from typing import Any

import numpy as np

from corelane.client.load import LOST, UNANSWERED, UNSENT, Outcome
from corelane.core.types import Array, JsonObject

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
SHED = (429, 503)
LAG_S = 0.01
"""A generator that sends later than this is short of processor time, or of connections: its latencies are its own."""


def load_report(outcome: Outcome) -> JsonObject:
    """Rates a second, how many requests had each status, and latencies in milliseconds: of answers with success, and of
    refusals for overload. Answers are counted until the last reply; what had none is among the statuses only.
    """
    duration_s = float(np.ptp(outcome.due_s)) or 1.0
    ended_s = float(np.nanmax(outcome.due_s + np.nan_to_num(outcome.latency_s)) - outcome.due_s.min())
    lag_s = outcome.lag_s[outcome.status != UNSENT]
    lag_s = lag_s[~np.isnan(lag_s)]  # where no connection could be made nothing was sent either
    answered = outcome.status == 200
    seen, counts = np.unique(outcome.status, return_counts=True)
    names = {LOST: "lost", UNANSWERED: "unanswered", UNSENT: "unsent"}
    return {
        "requests": len(outcome.status),
        "offered_per_s": (len(outcome.status) - 1) / duration_s,
        "answered_per_s": int(answered.sum()) / max(duration_s, ended_s),
        "statuses": {names.get(one, str(one)): many for one, many in zip(seen.tolist(), counts.tolist(), strict=True)},
        "latency_ms": _percentiles(outcome.latency_s[answered]),
        "refusal_ms": _percentiles(outcome.latency_s[np.isin(outcome.status, SHED)]),
        "lag_ms": _percentiles(lag_s),
        "is_generator_late": bool(len(lag_s) and np.percentile(lag_s, 99) > LAG_S),
    }


def _percentiles(seconds: Array) -> dict[str, Any] | None:
    """Percentiles and the largest, each a latency that was seen; None where there is none."""
    if not len(seconds):
        return None
    values = np.percentile(seconds, [*PERCENTILES, 100.0], method="higher") * 1000.0
    return dict(zip([*(f"p{one:g}" for one in PERCENTILES), "max"], values.tolist(), strict=True))
