"""The search for the way to run a package's graphs on this machine: library, graph, threads, streams and batch.

The search itself is `machine/optimizer.py`; here is what it tries and what it times: calls of the runtime on inputs
that the package's own pipeline made. For `latency` a step is a call with one row, and counts as long as half of them
took; for `throughput` it is one of the rows that all streams work through together.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from corelane.core.clock import Clock
from corelane.core.errors import ConfigError, GoldenError
from corelane.core.types import NamedArrays
from corelane.machine.optimizer import SLICE_S, CPUOptimizer, Found, Pass, Rig, UnusableError
from corelane.machine.process import resident_bytes
from corelane.model.candidate import BATCHES, SAFE, Candidate, Objective
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.model.runtimes.opening import CANNOT_RUN, runtimes_of

FIRST_BATCH = 64
FOREVER = 1_000_000_000  # steps that a plan is for: what starting costs does not matter
SEARCH_S = 8.0  # for each objective: whoever asks for an optimised package waits for its graphs too
COMPILED_MARGIN = 0.3  # by which torch must win: each process that scores compiles anew, for 3 to 18 s
MEMORY_SHARE = 0.5  # that a search may use of the machine's memory
MEASURED_ROWS = 32
AT_ONCE = 6  # candidates of an exhaustive search, each with buffers for up to 1,024 rows
STEP_NAMES: dict[Objective, str] = {"latency": "call", "throughput": "row"}


class ServingTrials:
    """Makes candidates of `package` ready to be timed, on rows of the network's `inputs`."""

    def __init__(
        self, package: ModelPackage, inputs: NamedArrays, objective: Objective, clock: Clock, memory_bytes: int
    ) -> None:
        self._package = package
        self._inputs = inputs
        self._objective = objective
        self._clock = clock
        self._room = _Room(memory_bytes)

    def prepare(self, candidate: Candidate, limit_s: float) -> Rig:
        """Ready to be timed. Raises `UnusableError` where it cannot run, answers the golden rows otherwise, or would
        take more memory than there is room for.
        """
        del limit_s
        self._room.check(candidate.batch * candidate.streams)
        try:
            predictor = self._package.predictor(candidate)
            with self._room.measured(candidate.batch):
                self._package.check_golden(predictor, graph=candidate.graph)
                predictor.runtime.run(inputs := tiled(self._inputs, candidate.batch))
        except (*CANNOT_RUN, ConfigError, GoldenError) as error:
            raise UnusableError(error.message) from error
        make = _CallRig if self._objective == "latency" else _RowRig
        return make(predictor, candidate, inputs, self._clock)


class _Room:
    """How much memory a row was seen to take, and whether so many of them have room.

    Several candidates are ready at the same time, and somebody else's network may need gigabytes for a batch.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._most_bytes = MEMORY_SHARE * memory_bytes
        self._row_bytes = 0.0

    def check(self, num_rows: int) -> None:
        """Raise `UnusableError` where `num_rows` rows at once would not have room."""
        wanted = self._row_bytes * num_rows
        if resident_bytes() + wanted > self._most_bytes:
            raise UnusableError(f"its {num_rows} rows at once need about {wanted / 1e9:.1f} GB, for which is no room")

    @contextmanager
    def measured(self, num_rows: int) -> Iterator[None]:
        """Take what is done inside for a run of `num_rows` rows; of few rows more is overhead than theirs."""
        before = resident_bytes()
        yield
        if num_rows >= MEASURED_ROWS:
            self._row_bytes = max(self._row_bytes, (resident_bytes() - before) / num_rows)


class _CallRig:
    """Times single calls; half of them took no longer than what it says."""

    startup_s = 0.0
    agreement = 0.0  # what precision costs was judged before, on rows with a truth

    def __init__(self, predictor: Predictor, candidate: Candidate, inputs: NamedArrays, clock: Clock) -> None:
        del candidate
        self._run = partial(predictor.runtime.run, inputs)
        self._monotonic = clock.monotonic

    def time(self, num_steps: int) -> float:
        """As `Rig.time`."""
        return num_steps * statistics.median(self._call() for _ in range(num_steps))

    def _call(self) -> float:
        start = self._monotonic()
        self._run()
        return self._monotonic() - start


class _RowRig:
    """Times all streams together, for about a slice's time however few steps are asked for."""

    startup_s = 0.0
    agreement = 0.0

    def __init__(self, predictor: Predictor, candidate: Candidate, inputs: NamedArrays, clock: Clock) -> None:
        self._run = partial(predictor.runtime.run, inputs)
        self._candidate = candidate
        self._monotonic = clock.monotonic
        self._calls = 1
        self._pool = ThreadPoolExecutor(candidate.streams, thread_name_prefix="corelane-stream")

    def time(self, num_steps: int) -> float:
        """As `Rig.time`."""
        elapsed_s = self._round()
        row_s = elapsed_s / (self._calls * self._candidate.streams * self._candidate.batch)
        self._calls = max(1, round(self._calls * SLICE_S / max(elapsed_s, 1e-6)))
        return num_steps * row_s

    def _round(self) -> float:
        start = self._monotonic()
        for done in [self._pool.submit(self._stream) for _ in range(self._candidate.streams)]:
            done.result()
        return self._monotonic() - start

    def _stream(self) -> None:
        for _ in range(self._calls):
            self._run()


def search(
    package: ModelPackage,
    inputs: NamedArrays,
    objective: Objective,
    *,
    shapes: Sequence[tuple[int, int]],
    isa: Sequence[str],
    memory_bytes: int,
    clock: Clock,
) -> Found[Candidate]:
    """The fastest way to run `package` for `objective`.

    `shapes` are the numbers of (streams, threads) worth trying, `inputs` rows of the network's inputs; of the
    machine's `memory_bytes` half may be used.
    Raises `UnusableError` when not even the safe way runs.
    """
    passes = latency_passes if objective == "latency" else throughput_passes
    optimizer = _optimizer(package, inputs, objective, clock, memory_bytes)
    return optimizer.search(SAFE, passes(tuple(package.graphs), shapes, isa))


def exhaust(
    package: ModelPackage,
    inputs: NamedArrays,
    objective: Objective,
    *,
    shapes: Sequence[tuple[int, int]],
    isa: Sequence[str],
    memory_bytes: int,
    clock: Clock,
    batches: Collection[int] = BATCHES,
) -> Found[Candidate]:
    """The best of all candidates with these batches, each timed at length: what `search` is measured against."""
    optimizer = _optimizer(package, inputs, objective, clock, memory_bytes)
    candidates = all_candidates(tuple(package.graphs), objective, shapes, isa)
    return optimizer.exhaust([one for one in candidates if one == SAFE or one.batch in batches], at_once=AT_ONCE)


def _optimizer(
    package: ModelPackage, inputs: NamedArrays, objective: Objective, clock: Clock, memory_bytes: int
) -> CPUOptimizer[Candidate]:
    return CPUOptimizer(
        prepare=ServingTrials(package, inputs, objective, clock, memory_bytes).prepare,
        num_steps=FOREVER,
        clock=clock,
        step_name=STEP_NAMES[objective],
        search_s=SEARCH_S,
    )


def latency_passes(
    graphs: Sequence[str], shapes: Sequence[tuple[int, int]], isa: Sequence[str]
) -> list[Pass[Candidate]]:
    """One row, one stream: which graph in which library, on how many threads, and the first again on so many."""

    def threads(best: Candidate) -> Iterator[Candidate]:
        yield from (replace(best, threads=threads) for streams, threads in shapes if streams == 1)

    around = _graphs(graphs, isa)  # without torch: a server does not import it
    return [Pass(around), Pass(threads), Pass(around)]


def throughput_passes(
    graphs: Sequence[str], shapes: Sequence[tuple[int, int]], isa: Sequence[str]
) -> list[Pass[Candidate]]:
    """Many rows: streams and threads, graph and library, the batch, the first two again; then torch, compiled."""

    def first(best: Candidate) -> Iterator[Candidate]:
        for streams, threads in shapes:
            yield replace(best, streams=streams, threads=threads, batch=FIRST_BATCH)

    def shaped(best: Candidate) -> Iterator[Candidate]:
        yield from (replace(best, streams=streams, threads=threads) for streams, threads in shapes)

    def batched(best: Candidate) -> Iterator[Candidate]:
        yield from (replace(best, batch=batch) for batch in BATCHES)

    def compiled(best: Candidate) -> Iterator[Candidate]:
        if "torch" in runtimes_of("fp32", isa):  # its bfloat16 was not judged
            yield replace(best, graph="fp32", runtime="torch", streams=1, threads=best.num_threads)

    around = _graphs(graphs, isa)
    plain = [Pass(first), Pass(around), Pass(batched), Pass(shaped), Pass(around)]
    return [*plain, Pass(compiled, margin=COMPILED_MARGIN, is_compiled=True)]


def all_candidates(
    graphs: Sequence[str], objective: Objective, shapes: Sequence[tuple[int, int]], isa: Sequence[str]
) -> list[Candidate]:
    """Every candidate that needs no compiler, the safe one first."""
    is_latency = objective == "latency"
    found = [
        Candidate(runtime, graph, threads, streams, batch)
        for graph in graphs
        for runtime in runtimes_of(graph, isa)
        if runtime != "torch"
        for streams, threads in shapes
        for batch in ((1,) if is_latency else BATCHES)
        if not is_latency or streams == 1
    ]
    return list(dict.fromkeys([SAFE, *found]))


def tiled(inputs: NamedArrays, num_rows: int) -> NamedArrays:
    """`num_rows` rows of `inputs`, over and over where there are fewer."""
    return {
        name: np.ascontiguousarray(np.resize(values, (num_rows, *values.shape[1:]))) for name, values in inputs.items()
    }


def _graphs(graphs: Sequence[str], isa: Sequence[str]) -> Callable[[Candidate], Iterator[Candidate]]:
    def around(best: Candidate) -> Iterator[Candidate]:
        for graph in graphs:
            for runtime in runtimes_of(graph, isa):
                if runtime != "torch":
                    yield replace(best, graph=graph, runtime=runtime)

    return around
