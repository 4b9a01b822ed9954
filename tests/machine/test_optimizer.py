"""The search, on simulated candidates with known times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from corelane.core.clock import ManualClock
from corelane.machine.optimizer import (
    COMPILE_S,
    MOST_SEARCH_S,
    SEARCH_S,
    SEARCH_SHARE,
    CPUOptimizer,
    Found,
    Pass,
    UnusableError,
)


@dataclass(frozen=True)
class Speed:
    """What a simulated candidate is: seconds a step and to start, what its losses are off, why it cannot run."""

    step_s: float
    startup_s: float = 0.0
    agreement: float = 0.0
    refusal: str = ""


@dataclass
class Bench:
    """A machine of simulated candidates. Most slices take about as long as they should, few up to `noise` times."""

    speeds: Mapping[str, Speed]
    noise: float = 1.0
    clock: ManualClock = field(default_factory=ManualClock)
    limits: dict[str, float] = field(default_factory=dict)
    slices: list[str] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(0))

    def prepare(self, candidate: str, limit_s: float) -> SimulatedRig:
        self.limits[candidate] = limit_s
        speed = self.speeds[candidate]
        if speed.refusal:
            raise UnusableError(speed.refusal)
        self.clock.advance(min(speed.startup_s, limit_s))
        if speed.startup_s > limit_s:
            raise UnusableError(f"it was not ready within {limit_s:.2g} s")
        return SimulatedRig(self, candidate, speed.startup_s, speed.agreement)

    def search(self, num_steps: int, *passes: Pass[str]) -> Found[str]:
        optimizer = CPUOptimizer(prepare=self.prepare, num_steps=num_steps, clock=self.clock)
        return optimizer.search(next(iter(self.speeds)), passes or [among(self.speeds)])

    def time(self, candidate: str, num_steps: int) -> float:
        self.slices.append(candidate)
        taken = self.speeds[candidate].step_s * num_steps * (1.0 + (self.noise - 1.0) * self.random.random() ** 4)
        self.clock.advance(taken)
        return taken


@dataclass
class SimulatedRig:
    bench: Bench
    candidate: str
    startup_s: float
    agreement: float

    def time(self, num_steps: int) -> float:
        return self.bench.time(self.candidate, num_steps)


def among(names: Sequence[str] | Mapping[str, Any], **options: Any) -> Pass[str]:
    return Pass(lambda best: names, **options)


def compiled(*names: str) -> Pass[str]:
    return among(names, is_compiled=True)


def verdicts(found: Found[str]) -> dict[str, str]:
    return {trial.candidate: trial.verdict for trial in found.trials}


@pytest.mark.parametrize("seed", range(20))
def test_the_fastest_wins_on_a_noisy_machine(seed: int) -> None:
    """Slices take up to three times as long as they should; the winner is within 5 % of the fastest all the same."""
    steps = {f"c{number}": 0.001 * (1.0 + 0.08 * ((3 * number + seed) % 14)) for number in range(14)}
    bench = Bench({name: Speed(step_s) for name, step_s in steps.items()}, noise=3.0, random=Random(seed))
    found = bench.search(10**6)
    assert steps[found.chosen] <= 1.05 * min(steps.values())
    assert bench.clock.monotonic() < 1.5 * SEARCH_S


def test_the_slow_half_leaves_the_race() -> None:
    """Most of the time goes to those that may win."""
    bench = Bench({f"c{number}": Speed(0.001 + 0.0001 * number) for number in range(8)})
    bench.search(10**6)
    assert bench.slices.count("c0") > 2 * bench.slices.count("c7")


def test_a_tie_goes_to_the_first() -> None:
    """One per cent is noise: the simpler candidate stays, and the other's verdict says so."""
    found = Bench({"plain": Speed(0.00100), "fancy": Speed(0.00099)}).search(10**6)
    assert found.chosen == "plain"
    assert verdicts(found)["fancy"] == "not more than 2% faster than plain, which stays"


def test_a_pass_may_ask_for_more_than_a_tie() -> None:
    """What costs accuracy must win by its margin."""
    speeds = {"float32": Speed(0.001), "bf16": Speed(0.00093), "amx": Speed(0.0005)}
    assert Bench(speeds).search(10**6, among(["bf16"], margin=0.1)).chosen == "float32"
    assert Bench(speeds).search(10**6, among(["amx"], margin=0.1)).chosen == "amx"


def test_losses_that_disagree_drop_the_fastest() -> None:
    """Fast and wrong is dropped, NaN too, with the figure."""
    speeds = {"plain": Speed(0.01), "wrong": Speed(0.001, agreement=0.03), "broken": Speed(0.001, agreement=math.nan)}
    found = Bench(speeds).search(10**5)
    assert found.chosen == "plain"
    assert verdicts(found)["wrong"] == "dropped: its losses differ by 3.00%, more than 1.00%"
    assert verdicts(found)["broken"].startswith("dropped")


def test_what_cannot_run_is_dropped_with_its_reason() -> None:
    """A missing compiler ends a candidate and not the search; that of the first candidate is the caller's."""
    speeds = {"plain": Speed(0.01), "compiled": Speed(0.001, refusal="there is no g++")}
    found = Bench(speeds).search(10**6, compiled("compiled"))
    assert (found.chosen, verdicts(found)["compiled"]) == ("plain", "cannot be used: there is no g++")
    with pytest.raises(UnusableError):
        Bench({"plain": Speed(0.01, refusal="no copy")}).search(10**6)


def test_a_short_run_is_not_searched() -> None:
    """A second of training is not worth a search; a few seconds get a twentieth of them."""
    speeds = {f"c{number}": Speed(0.001) for number in range(4)}
    short, longer = Bench(speeds), Bench(speeds)
    found = short.search(1_000)
    assert found.chosen == "c0"
    assert found.reason == "c0: not searched, the whole run is predicted to take 1 s"
    assert short.slices == ["c0", "c0"]
    longer.search(5_000)
    assert longer.clock.monotonic() < 1.3 * SEARCH_SHARE * 5.0


def test_long_steps_are_searched_within_bounds() -> None:
    """With steps of half a second the search takes more than two seconds, at most a little over ten; what was not
    reached says so."""
    bench = Bench({f"c{number}": Speed(0.5) for number in range(40)})
    found = bench.search(10**6)
    assert SEARCH_S < bench.clock.monotonic() < 3 * MOST_SEARCH_S
    assert "c0" in found.chosen


def test_compiling_is_tried_only_where_it_may_pay() -> None:
    """The most that it can save must be more than it costs."""
    speeds = {"plain": Speed(0.001), "compiled": Speed(0.0005, startup_s=5.0)}
    short = Bench(speeds).search(20_000, compiled("compiled"))
    assert short.chosen == "plain"
    assert verdicts(short)["compiled"] == "not tried: compiling costs about 12 s and saves at most 8 s"
    long = Bench(speeds).search(200_000, compiled("compiled"))
    assert long.chosen == "compiled"
    assert long.reason == "compiled: 0.5 ms a step, the best of 2 timed; plain took 1 ms"


def test_compiling_must_have_paid() -> None:
    """A compiled candidate with faster steps loses when the whole run would take longer."""
    found = Bench({"plain": Speed(0.001), "compiled": Speed(0.0009, startup_s=10.0)}).search(
        50_000, compiled("compiled")
    )
    assert found.chosen == "plain"
    assert verdicts(found)["compiled"] == (
        "its steps are faster, but with 10 s of compiling it takes 10% longer than plain"
    )


def test_the_first_compilation_tells_what_the_next_costs() -> None:
    """Where compiling was seen to take long, the next compiled candidate has to promise more."""
    speeds = {"plain": Speed(0.001), "slow": Speed(0.002, startup_s=19.0), "next": Speed(0.0001, startup_s=1.0)}
    found = Bench(speeds).search(45_000, compiled("slow", "next"))
    assert verdicts(found)["next"] == "not tried: compiling costs about 18 s and saves at most 18 s"


def test_compiling_gets_as_long_as_it_may_save() -> None:
    """A compiler that is not done by then is stopped."""
    bench = Bench({"plain": Speed(0.001), "slow": Speed(0.0001, startup_s=100.0)})
    found = bench.search(40_000, compiled("slow"))
    assert bench.limits["slow"] == pytest.approx(16.0)
    assert bench.limits["slow"] > COMPILE_S
    assert verdicts(found)["slow"] == "cannot be used: it was not ready within 16 s"


def test_later_passes_go_on_from_the_best() -> None:
    """Each pass asks around the best so far, and nothing is tried twice."""
    speeds = {"a1": Speed(0.003), "a2": Speed(0.002), "a2-fast": Speed(0.001), "a1-fast": Speed(0.0001)}
    found = Bench(speeds).search(10**6, among(["a1", "a2"]), Pass(lambda best: [best, f"{best}-fast"]))
    assert found.chosen == "a2-fast"
    assert [trial.candidate for trial in found.trials] == ["a1", "a2", "a2-fast"]


def test_an_exhaustive_search_times_everything() -> None:
    """All candidates, compiled ones too, whatever they cost; the same objective."""
    speeds = {"plain": Speed(0.001), "compiled": Speed(0.0009, startup_s=30.0), "best": Speed(0.00099)}
    bench = Bench(speeds)
    optimizer = CPUOptimizer(prepare=bench.prepare, num_steps=10_000, clock=bench.clock)
    found = optimizer.exhaust(list(speeds))
    assert found.chosen == "best"
    assert all(trial.step_s is not None for trial in found.trials)


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_exhaustive_search_may_be_of_a_few_at_once(at_once: int) -> None:
    """The best so far is timed with each group; the others let go of what they hold."""
    speeds = {"plain": Speed(0.001), "best": Speed(0.0005), "slow": Speed(0.002), "good": Speed(0.0006)}
    bench = Bench(speeds)
    found = CPUOptimizer(prepare=bench.prepare, num_steps=10_000, clock=bench.clock).exhaust(
        list(speeds), at_once=at_once
    )
    assert found.chosen == "best"
    assert all(trial.step_s is not None for trial in found.trials)


def test_totals_count_the_start() -> None:
    """A trial's total is its start and its steps; one that was not timed has none."""
    trial = Bench({"plain": Speed(0.001)}).search(10**6).trials[0]
    assert trial.total_s(1000) == pytest.approx(1.0)
    assert replace(trial, step_s=None).total_s(1000) is None


def test_one_lucky_slice_is_no_win() -> None:
    """A candidate with the shortest slice that loses most rounds is not the faster one."""

    class Lucky(SimulatedRig):
        def time(self, num_steps: int) -> float:
            taken = super().time(num_steps)
            return taken / 2 if self.bench.slices.count(self.candidate) == 9 else taken

    bench = Bench({"plain": Speed(0.001), "lucky": Speed(0.00102)})
    prepare = {"plain": SimulatedRig, "lucky": Lucky}
    optimizer = CPUOptimizer(
        prepare=lambda name, limit_s: prepare[name](bench, name, 0.0, 0.0), num_steps=10**6, clock=bench.clock
    )
    found = optimizer.search("plain", [among(["lucky"])])
    assert found.chosen == "plain"
    assert verdicts(found)["lucky"] == "not always faster than plain, which stays"
