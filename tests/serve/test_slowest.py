"""The slowest requests are kept for a while, and few."""

from __future__ import annotations

from corelane.serve.request import Receipt
from corelane.serve.slowest import KEPT, WINDOW_S, Slowest, SlowRequest


def slow(total_s: float, ended_s: float) -> SlowRequest:
    return SlowRequest(total_s, 1, 100, ended_s, Receipt(total_s / 2, total_s / 2, 1, "fp32"))


def test_the_slowest_of_many_are_kept() -> None:
    """Sixteen of them, the slowest first, with where the time went."""
    slowest = Slowest()
    for number in range(1000):
        if slowest.due(number % 100, 1.0):
            slowest.offer(slow(number % 100, 1.0))
    told = slowest.to_json(11.0)
    assert len(told) == KEPT
    assert [one["total_us"] for one in told[:10]] == [99e6] * 10
    assert told[10]["total_us"] == 98e6
    assert told[0] == {
        "total_us": 99_000_000,
        "age_s": 10.0,
        "rows": 1,
        "bytes": 100,
        "queue_us": 49_500_000,
        "compute_us": 49_500_000,
        "batch_rows": 1,
        "plan": "fp32",
    }


def test_old_ones_are_forgotten() -> None:
    """After two windows; those of the last one are still told."""
    slowest = Slowest()
    slowest.offer(slow(5.0, 0.0))
    assert slowest.due(0.001, WINDOW_S + 1)
    slowest.offer(slow(1.0, WINDOW_S + 1))
    assert [one["total_us"] for one in slowest.to_json(WINDOW_S + 2)] == [5e6, 1e6]
    assert [one["total_us"] for one in slowest.to_json(2 * WINDOW_S + 3)] == [1e6]
    assert slowest.to_json(4 * WINDOW_S) == []
