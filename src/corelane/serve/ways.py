"""The ways to run a model's batches: alone on all threads, for the soonest answer; or several at a time on one thread
each, for the most answers. Which is better depends on the model and on what waits, and is measured at load.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from corelane.core.clock import Clock
from corelane.core.errors import CorelaneError, RequestError
from corelane.machine.memory import MemoryManager, Reservation
from corelane.model.candidate import Candidate
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.serve.pace import UNKNOWN, Pace, measure_pace
from corelane.serve.tail import TailModel

# Handing a run to a thread and back took 60-200 us under load on two cores of 2021. A run expected to be shorter than
# that stays on the event loop's thread, which costs the others less than the hand-over would.
THREAD_HOP_S = 200e-6

ALONE_S = 5e-3
"""Of a run in a worker that has one CPU: so long it may stay on the event loop's thread, too. A thread of its own would
bring no more runs about, and the two would interrupt each other at every request.
"""

WORTH = 0.9  # of what comes out of one at a time, that several must give by the first measurement to be kept beside it
WASTE = 0.05  # of a run's time, that may go into what does not depend on its rows


class Way:
    """Owns one runtime of a model, and what is known of its runs. `close` releases both.

    `streams` runs may go on at a time, each on `candidate.threads` threads.
    """

    def __init__(
        self, candidate: Candidate, predictor: Predictor, pace: Pace, *, batch_size: int, quantile: float
    ) -> None:
        self.candidate = candidate
        self.predictor = predictor
        self.num_runs = 0  # that go on
        self._batch_size = batch_size
        self._quantile = quantile
        self._reservation: Reservation | None = None
        self.pace = pace

    @property
    def pace(self) -> Pace:
        """How long runs take, as measured when it was opened."""
        return self._pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._pace = pace
        self.tail = TailModel(pace, self._batch_size, self._quantile)
        fixed_s = pace.fixed_s + THREAD_HOP_S
        most = fixed_s * (1 - WASTE) / WASTE / pace.row_s if pace.row_s else math.inf
        self.paying_rows = self._batch_size if most >= self._batch_size else max(1, math.ceil(most))
        """Rows a run of which more would gain little, and cost those among them time."""

    def rows_per_s(self, num_rows: int) -> float:
        """Rows a second, of runs of `num_rows` rows in all streams, as measured when it was opened.

        Between two runs on several threads all of those wait for the event loop; runs on one keep another in line.
        What runs take now would be no fair measure: only the way that is in use has felt the load.
        """
        idle_s = THREAD_HOP_S if self.candidate.threads > 1 else 1e-9
        return self.candidate.streams * num_rows / (self.pace.expected_s(num_rows) + idle_s)

    def holding(self, reservation: Reservation) -> Way:
        """This, with the memory that it needs."""
        self._reservation = reservation
        return self

    def close(self) -> None:
        """Release the runtime."""
        self.predictor.close()
        if self._reservation is not None:
            self._reservation.release()


class WayOpener:
    """Opens ways of one model; each has answered the golden rows, and is warm. `shared` is as for `open_runtime`."""

    def __init__(
        self,
        model: ModelPackage,
        memory: MemoryManager,
        clock: Clock,
        *,
        batch_size: int,
        quantile: float,
        shared: Path | None = None,
    ) -> None:
        self._model = model
        self._shared = shared
        self._memory = memory
        self._clock = clock
        self._batch_size = batch_size
        self._quantile = quantile

    def opened(self, candidate: Candidate) -> Way:
        """The way that `candidate` says. Raises `BundleError`, `GoldenError` and what opening its runtime raises."""
        predictor = self._model.predictor(candidate, shared=self._shared)
        try:
            self._model.check_golden(predictor, graph=candidate.graph)
            pace = self._measured(predictor, candidate.streams)
        except BaseException:
            predictor.close()
            raise
        return Way(candidate, predictor, pace, batch_size=self._batch_size, quantile=self._quantile)

    def beside(self, narrow: Way) -> Way | None:
        """A way of one thread a run, as many as `narrow` has in all; None where that gains too little, or memory lacks.

        It is timed with all of them running, as it would be used.
        """
        candidate = replace(narrow.candidate, threads=1, streams=narrow.candidate.num_threads)
        if narrow.candidate.threads == 1 or candidate.runtime == "torch":
            return None
        try:
            reservation = self._memory.reserve(self._model.num_bytes, "model")
        except CorelaneError:
            return None
        try:
            wide = self.opened(candidate).holding(reservation)
        except CorelaneError:  # what runs in one way need not in another: the one there is goes on
            reservation.release()
            return None
        if wide.rows_per_s(wide.paying_rows) < WORTH * narrow.rows_per_s(narrow.paying_rows):
            wide.close()
            return None
        return wide

    def _measured(self, predictor: Predictor, streams: int) -> Pace:
        try:
            return measure_pace(predictor, self._batch_size, self._clock, self._model.golden, streams=streams)
        except RequestError:  # somebody else's network, which takes no rows of zeros; its package holds no others
            return UNKNOWN
