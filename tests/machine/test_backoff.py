"""`ExponentialBackoff` waits longer each time, within bounds, on the clock it is given, and gives errors through."""

from __future__ import annotations

import errno

import pytest

from corelane.core.clock import ManualClock
from corelane.core.errors import ConfigError, DataError, SourceReadError, TransientError
from corelane.machine.backoff import ExponentialBackoff, Retryable
from corelane.machine.health import HealthChecker


def calls_until_success(backoff: ExponentialBackoff, on: Retryable, *errors: Exception) -> int:
    """Raise one of `errors` per attempt, then succeed; how many attempts that took."""
    calls = 0
    for attempt in backoff.attempts(on=on):
        with attempt:
            calls += 1
            assert attempt.number == calls
            if calls <= len(errors):
                raise errors[calls - 1]
    return calls


def test_three_retries_are_the_default() -> None:
    """Without arguments a failed call is tried again three times."""
    backoff = ExponentialBackoff()
    assert backoff.max_retries == 3
    assert len(list(backoff.delays())) == 3


def test_waits_double_up_to_the_maximum() -> None:
    """Without jitter the waits are exactly the powers of two, capped."""
    backoff = ExponentialBackoff(6, initial_s=0.5, maximum_s=5.0, jitter_s=0.0)
    assert list(backoff.delays()) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.delay_s(100_000) == 5.0


def test_jitter_is_drawn_within_its_bound_from_the_seed() -> None:
    """Equal seeds give equal waits, other seeds others, and each lies within the jitter above the doubled wait."""
    first, same, other = (
        list(ExponentialBackoff(8, initial_s=0.1, maximum_s=60.0, jitter_s=0.05, seed=seed).delays())
        for seed in (7, 7, 8)
    )
    assert first == same
    assert first != other
    assert all(0.1 * 2**n <= wait <= 0.1 * 2**n + 0.05 for n, wait in enumerate(first))


def test_an_attempt_that_succeeds_ends_the_loop() -> None:
    """Two failures, then success: three calls, two waits on the clock, no error."""
    clock = ManualClock()
    backoff = ExponentialBackoff(initial_s=1.0, jitter_s=0.0, clock=clock)
    dropped = SourceReadError("the connection dropped")
    assert calls_until_success(backoff, TransientError, dropped, dropped) == 3
    assert clock.slept == [1.0, 2.0]


def test_the_last_error_comes_through_without_a_wait_after_it() -> None:
    """After `max_retries` retries the error itself is raised, at once."""
    clock = ManualClock()
    backoff = ExponentialBackoff(2, initial_s=1.0, jitter_s=0.0, clock=clock)
    errors = [SourceReadError(f"attempt {number}") for number in (1, 2, 3)]
    with pytest.raises(SourceReadError, match="attempt 3"):
        calls_until_success(backoff, TransientError, *errors)
    assert clock.slept == [1.0, 2.0]


def test_another_error_is_not_retried() -> None:
    """An error that `on` does not cover ends the loop at its first appearance."""
    clock = ManualClock()
    with pytest.raises(DataError):
        calls_until_success(ExponentialBackoff(clock=clock), (TransientError, OSError), DataError("empty"))
    assert clock.slept == []


def test_no_retries_means_one_call() -> None:
    """`max_retries=0` calls once and waits never."""
    clock = ManualClock()
    with pytest.raises(SourceReadError):
        calls_until_success(ExponentialBackoff(0, clock=clock), TransientError, SourceReadError("gone"))
    assert clock.slept == []


def test_a_judgement_can_decide() -> None:
    """`on` may be a function of the error, such as the health checker's."""
    clock = ManualClock()
    errors = ConnectionResetError(errno.ECONNRESET, "reset"), ValueError("a mistake")
    with pytest.raises(ValueError, match="a mistake"):
        calls_until_success(ExponentialBackoff(clock=clock), HealthChecker().is_recoverable, *errors)
    assert len(clock.slept) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"max_retries": -1}, {"initial_s": -0.1}, {"initial_s": 2.0, "maximum_s": 1.0}, {"jitter_s": -1.0}],
)
def test_contradictory_waits_are_refused(arguments: dict[str, float]) -> None:
    """A backoff that exists is a valid one."""
    with pytest.raises(ConfigError, match="must"):
        ExponentialBackoff(**arguments)  # type: ignore[arg-type]
