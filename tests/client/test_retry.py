"""The budget of retries: a share of the requests, a rate besides, and no more saved than a window holds."""

from __future__ import annotations

import random

import pytest

from corelane.client.retry import MAX_ATTEMPTS, Attempts, RetryBudget
from corelane.core.clock import ManualClock
from corelane.core.errors import ConnectionLostError, OverloadedError, RequestError


def spent(budget: RetryBudget) -> int:
    """How many retries it allows now."""
    count = 0
    while budget.take():
        count += 1
    return count


def test_the_budget_is_a_share_and_a_rate() -> None:
    """A full window at first, then a fifth of the requests and ten a second."""
    clock = ManualClock()
    budget = RetryBudget(0.2, 10.0, 10.0, clock=clock)
    assert spent(budget) == 100
    for _ in range(51):
        budget.request()
    assert spent(budget) == 10
    clock.advance(3.0)
    assert spent(budget) == 30
    clock.advance(3600.0)
    assert spent(budget) == 100


def test_a_share_alone_is_saved_up_too() -> None:
    """Without a rate nothing is there at first, and ten requests with a tenth each make one retry."""
    budget = RetryBudget(0.1, 0.0, clock=ManualClock())
    assert spent(budget) == 0
    for _ in range(11):
        budget.request()
    assert spent(budget) == 1


def attempts(deadline_s: float, clock: ManualClock) -> Attempts:
    return Attempts(RetryBudget(clock=clock), deadline_s, clock, random.Random(0))


def test_waits_grow_and_end() -> None:
    """Each is about twice the one before; after the last attempt the error is raised."""
    clock = ManualClock()
    one = attempts(100.0, clock)
    waits = [one.wait_s(ConnectionLostError("x")) for _ in range(MAX_ATTEMPTS - 1)]
    assert all(0.5 * 0.05 * 2**index <= wait <= 1.5 * 0.05 * 2**index for index, wait in enumerate(waits))
    with pytest.raises(ConnectionLostError):
        one.wait_s(ConnectionLostError("x"))


def test_the_servers_wish_is_kept() -> None:
    """Retry-After is the least wait, where it fits the deadline."""
    clock = ManualClock()
    assert 7.0 <= attempts(100.0, clock).wait_s(OverloadedError("x", retry_after_s=7.0)) <= 8.75
    with pytest.raises(OverloadedError):
        attempts(5.0, clock).wait_s(OverloadedError("x", retry_after_s=7.0))


def test_what_would_come_again_is_raised() -> None:
    """Whatever time is left."""
    with pytest.raises(RequestError):
        attempts(100.0, ManualClock()).wait_s(RequestError("x"))
