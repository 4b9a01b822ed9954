"""`CPUOptimizer`: finds the fastest of several ways to do the same thing, by timing the real thing on this machine.

It is handed candidates and what makes one ready; what they are it does not know (neither torch nor ONNX). Timing is
interleaved, so that whatever else the machine does hits all of them, and what counts is the shortest slice of each: the
time that the machine needs when it is left alone. Plans (`plan.py`) are made of what is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol

from corelane.core.clock import Clock
from corelane.machine.plan import CandidateT, Trial

SEARCH_S = 2.0  # for the candidates that need no compiler
MOST_SEARCH_S = 10.0  # where a step is so long that a few of each candidate take more
STEPS_EACH = 3  # of such a long step
SEARCH_SHARE = 0.05  # of the predicted run: what a search gains is of that order, or more
LEAST_SEARCH_S = 0.1  # in less time there is no reliable answer, and a run of two seconds needs none
FIRST_SHARE = 0.7  # of the search's time is for the first pass, that has most candidates
SLICE_S = 0.01  # longer than the hiccups of the interpreter, short enough for many slices
MOST_SLICES = 16
HALVING_SLICES = 4  # after each so many the slower half leaves the race
BEATEN = 1.5  # and who is so many times slower than the fastest that noise does not explain it
COMPILED_RACE_S = 0.5  # beside the seconds that compiling takes
TIE = 0.02  # searches of the same machine differ by about that much
COMPILE_S = 12.0  # the cost of compiling, before it was seen here: 2 to 32 s were seen
COMPILE_GAIN = 0.4  # share of a step that compiling saves at best; what was seen on small networks
MOST_COMPILE_S = 120.0
TOLERANCE = 0.01  # bfloat16 moves a loss by a few thousandths, a wrong result by far more


class UnusableError(Exception):
    """A candidate cannot be run here; the message says why. For what makes it ready to raise."""


class Rig(Protocol):
    """A candidate that is ready to run. It is let go when the candidate has lost.

    `startup_s` is how long getting ready took in seconds, compiling and the first step included; `agreement` the
    largest relative distance of its losses from those of the first candidate.
    """

    startup_s: float
    agreement: float

    def time(self, num_steps: int) -> float:
        """Seconds that `num_steps` steps take."""
        ...


Prepare = Callable[[CandidateT, float], Rig]
"""Makes a candidate ready, within so many seconds (infinite: however long it takes). Raises `UnusableError`."""


@dataclass(frozen=True)
class Pass(Generic[CandidateT]):
    """One question of a search: what to try beside the best so far, and the share of time by which it must win."""

    around: Callable[[CandidateT], Iterable[CandidateT]]
    margin: float = TIE
    is_compiled: bool = False


@dataclass(frozen=True)
class Found(Generic[CandidateT]):
    """What a search came to: the chosen candidate, all of them in the order of trial, and the reason in words."""

    chosen: CandidateT
    trials: tuple[Trial[CandidateT], ...]
    reason: str


@dataclass
class _Entry(Generic[CandidateT]):
    """What is known of one candidate; times are those of the last race it was in."""

    candidate: CandidateT
    verdict: str = ""
    rig: Rig | None = None
    startup_s: float = 0.0
    agreement: float | None = None
    slices: Sequence[float] = ()

    @property
    def step_s(self) -> float:
        return min(self.slices, default=math.inf)

    def total_s(self, num_steps: int) -> float:
        return self.startup_s + num_steps * self.step_s

    def trial(self) -> Trial[CandidateT]:
        step_s = None if math.isinf(self.step_s) else self.step_s
        return Trial(self.candidate, self.verdict, step_s, self.startup_s, self.agreement)


@dataclass
class _Runner(Generic[CandidateT]):
    """An entry in a race."""

    entry: _Entry[CandidateT]
    rig: Rig
    slices: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Time one slice. The first is a single step, which says how many go into the others."""
        num_steps = max(1, min(100, round(SLICE_S / max(self.fastest, 1e-9)))) if self.slices else 1
        self.slices.append(self.rig.time(num_steps) / num_steps)

    @property
    def fastest(self) -> float:
        return min(self.slices, default=math.inf)


class CPUOptimizer(Generic[CandidateT]):
    """Owns one search and nothing else: which candidates are tried, how long, and which one is kept.

    What is minimised is the total time of `num_steps` steps, compiling included. The passes are asked in order, each
    around the best so far.

    The first candidate is the reference, and says how long the run is predicted to take. The passes without a compiler
    get `search_s` seconds together (up to `MOST_SEARCH_S` where each step is long), but not more than `SEARCH_SHARE` of
    the predicted run; where that is under `LEAST_SEARCH_S`, nothing is searched. A compiled candidate is tried when
    `num_steps` times the best time so far times `COMPILE_GAIN`, the most that it could save, is more than compiling
    costs: `COMPILE_S`, or what it cost the last time in this search. It gets as many seconds as it could save, at most
    `MOST_COMPILE_S`. A candidate that cannot be run, is not ready in time, or whose losses are further than `tolerance`
    from the reference's, is dropped with its reason.
    A step is whatever `prepare` times, and is called `step_name` in reasons.
    """

    def __init__(
        self,
        *,
        prepare: Prepare[CandidateT],
        num_steps: int,
        clock: Clock,
        tolerance: float = TOLERANCE,
        step_name: str = "step",
        search_s: float = SEARCH_S,
    ) -> None:
        self._prepare = prepare
        self._num_steps = num_steps
        self._clock = clock
        self._tolerance = tolerance
        self._step_name = step_name
        self._search_s = search_s
        self._entries: dict[CandidateT, _Entry[CandidateT]] = {}
        self._compile_s = COMPILE_S

    def search(self, first: CandidateT, passes: Sequence[Pass[CandidateT]]) -> Found[CandidateT]:
        """The best of `first` and what `passes` try. Raises `UnusableError` when `first` cannot be run."""
        best = self._reference(first)
        budget_s = self._budget_s(best, passes)
        if budget_s < LEAST_SEARCH_S:
            best.verdict = f"the default; the whole run is predicted to take {best.total_s(self._num_steps):.2g} s"
            return self._found(best, f"{first}: not searched, {best.verdict.partition('; ')[2]}")
        end_s = self._clock.monotonic() + budget_s
        plain = [one for one in passes if not one.is_compiled]
        for number, one in enumerate(plain):
            left_s = end_s - self._clock.monotonic()
            share = FIRST_SHARE if number == 0 and len(plain) > 1 else 1.0
            best = self._try_all(best, one, self._clock.monotonic() + share * left_s)
        for one in passes:
            if one.is_compiled:
                best = self._try_compiled(best, one)
        return self._found(best, self._reason(best))

    def exhaust(self, candidates: Sequence[CandidateT], *, at_once: int | None = None) -> Found[CandidateT]:
        """The best of all `candidates`, the first being the reference, timed at length and whatever it costs.

        So many are ready `at_once`, beside the best so far, which is timed anew with them; all of them without it.
        """
        best = self._reference(candidates[0])
        others = candidates[1:]
        for start in range(0, len(others), at_once or max(1, len(others))):
            group = others[start : start + (at_once or len(others))]
            field = [best, *(entry for one in group if (entry := self._ready(one, math.inf)) is not None)]
            self._race(field, math.inf, is_halving=False)
            best = min(field, key=lambda entry: entry.total_s(self._num_steps))
            self._judge(field, best, margin=0.0)
        return self._found(best, self._reason(best))

    def _reference(self, candidate: CandidateT) -> _Entry[CandidateT]:
        """The first candidate, ready and timed briefly."""
        entry = self._entries[candidate] = _Entry(candidate)
        entry.rig = self._prepare(candidate, math.inf)
        entry.startup_s, entry.agreement = entry.rig.startup_s, entry.rig.agreement
        entry.slices = [entry.rig.time(1), entry.rig.time(1)]
        return entry

    def _budget_s(self, best: _Entry[CandidateT], passes: Sequence[Pass[CandidateT]]) -> float:
        num_candidates = sum(len(set(one.around(best.candidate))) for one in passes if not one.is_compiled)
        long_s = STEPS_EACH * num_candidates * best.step_s
        return min(SEARCH_SHARE * best.total_s(self._num_steps), max(self._search_s, min(long_s, MOST_SEARCH_S)))

    def _try_all(self, best: _Entry[CandidateT], question: Pass[CandidateT], end_s: float) -> _Entry[CandidateT]:
        field = [best]
        for candidate in self._new(question.around(best.candidate)):
            if self._clock.monotonic() >= end_s:
                self._entries[candidate] = _Entry(candidate, "not tried: the time for the search was over")
            elif (entry := self._ready(candidate, math.inf)) is not None:
                field.append(entry)
        return self._decide(field, best, question.margin, end_s)

    def _try_compiled(self, best: _Entry[CandidateT], question: Pass[CandidateT]) -> _Entry[CandidateT]:
        for candidate in self._new(question.around(best.candidate)):
            saving_s = self._num_steps * best.step_s * COMPILE_GAIN
            if saving_s <= self._compile_s:
                verdict = f"not tried: compiling costs about {self._compile_s:.2g} s and saves at most {saving_s:.2g} s"
                self._entries[candidate] = _Entry(candidate, verdict)
                continue
            began_s = self._clock.monotonic()
            entry = self._ready(candidate, min(saving_s, MOST_COMPILE_S))
            taken_s = self._clock.monotonic() - began_s
            if entry is None:
                self._compile_s = max(self._compile_s, taken_s)
            else:
                self._compile_s = taken_s
                end_s = self._clock.monotonic() + COMPILED_RACE_S
                best = self._decide([best, entry], best, question.margin, end_s)
        return best

    def _new(self, candidates: Iterable[CandidateT]) -> list[CandidateT]:
        return [candidate for candidate in dict.fromkeys(candidates) if candidate not in self._entries]

    def _ready(self, candidate: CandidateT, limit_s: float) -> _Entry[CandidateT] | None:
        """The candidate, ready to race; None, with the reason noted, where it cannot be used."""
        entry = self._entries[candidate] = _Entry(candidate)
        try:
            rig = self._prepare(candidate, limit_s)
        except UnusableError as error:
            entry.verdict = f"cannot be used: {error}"
            return None
        entry.startup_s, entry.agreement = rig.startup_s, rig.agreement
        if not rig.agreement <= self._tolerance:  # NaN is no agreement either
            entry.verdict = f"dropped: its losses differ by {rig.agreement:.2%}, more than {self._tolerance:.2%}"
            return None
        entry.rig = rig
        return entry

    def _decide(
        self, field: Sequence[_Entry[CandidateT]], best: _Entry[CandidateT], margin: float, end_s: float
    ) -> _Entry[CandidateT]:
        """Race `field`; the fastest of it, or `best` unless beaten by `margin`. The others let go of their rigs."""
        if len(field) == 1:
            return best
        self._race(field, end_s)
        must_be_s = (1.0 - margin) * best.total_s(self._num_steps)
        ahead = [one for one in field if one.total_s(self._num_steps) <= must_be_s and _wins_most(one, best)]
        winner = min(ahead, key=lambda entry: entry.total_s(self._num_steps), default=best)
        self._judge(field, winner, margin)
        return winner

    def _race(self, field: Sequence[_Entry[CandidateT]], end_s: float, *, is_halving: bool = True) -> None:
        """Time slices of all in turn until `end_s`, at least one of each; the slower ones leave on the way."""
        runners = [_Runner(entry, entry.rig) for entry in field if entry.rig is not None]
        running = runners
        for number in range(1, MOST_SLICES + 1):
            for runner in running:
                if runner.slices and self._clock.monotonic() >= end_s:
                    break
                runner.run()
            if is_halving and number % HALVING_SLICES == 0:
                running = _still_in(running)
            if len(running) == 1 or self._clock.monotonic() >= end_s:
                break
        for runner in runners:
            runner.entry.slices = runner.slices

    def _judge(self, field: Sequence[_Entry[CandidateT]], winner: _Entry[CandidateT], margin: float) -> None:
        for entry in field:
            if entry is not winner:
                entry.verdict, entry.rig = self._verdict(entry, winner, margin), None

    def _verdict(self, entry: _Entry[CandidateT], winner: _Entry[CandidateT], margin: float) -> str:
        slower = entry.step_s / winner.step_s - 1.0
        if slower >= min(TIE, margin):
            return f"{slower:.0%} slower than {winner.candidate}"
        total_s, best_s = entry.total_s(self._num_steps), winner.total_s(self._num_steps)
        if total_s > best_s * (1.0 + TIE):
            longer = f"{total_s / best_s - 1.0:.0%} longer than {winner.candidate}"
            return f"its steps are faster, but with {entry.startup_s:.2g} s of compiling it takes {longer}"
        if slower <= -margin:
            return f"not always faster than {winner.candidate}, which stays"
        return f"not more than {margin:.0%} faster than {winner.candidate}, which stays"

    def _reason(self, best: _Entry[CandidateT]) -> str:
        timed = [entry for entry in self._entries.values() if entry.slices]
        first = timed[0]
        beside = "" if first is best else f"; {first.candidate} took {duration_text(first.step_s)}"
        time = f"{duration_text(best.step_s)} a {self._step_name}"
        return f"{best.candidate}: {time}, the best of {len(timed)} timed{beside}"

    def _found(self, best: _Entry[CandidateT], reason: str) -> Found[CandidateT]:
        best.verdict = best.verdict or f"chosen: {duration_text(best.step_s)} a {self._step_name}"
        best.rig = None
        return Found(best.candidate, tuple(entry.trial() for entry in self._entries.values()), reason)


def duration_text(seconds: float) -> str:
    """In milliseconds, or in microseconds below a tenth of one."""
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.3g} us"


def _wins_most(one: _Entry[CandidateT], other: _Entry[CandidateT]) -> bool:
    """Whether `one` was faster in most rounds of the race: the shortest slice alone may be one of luck."""
    rounds = list(zip(one.slices, other.slices, strict=False))
    return 2 * sum(mine < theirs for mine, theirs in rounds) > len(rounds)


def _still_in(runners: Sequence[_Runner[CandidateT]]) -> list[_Runner[CandidateT]]:
    """The best so far, which all are compared with, and the faster half of the others, but those that are beaten."""
    best, *others = runners
    ranked = sorted(others, key=lambda runner: runner.fastest)
    kept = ranked[: -(-len(ranked) // 2)]
    return [best, *(runner for runner in kept if runner.fastest <= BEATEN * min(best.fastest, ranked[0].fastest))]
