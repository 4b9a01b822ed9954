"""A request of more rows than a batch, run part by part, so that neither its memory nor others' wait grows with it.

One part is in the queue at a time, behind what came meanwhile; the request is answered when the last one is, and fails
with the first that does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from corelane.core.errors import RequestError
from corelane.core.types import NamedArrays
from corelane.serve.request import Deliver, Inputs, Receipt, Request, Response

Queue = Callable[[Request, Deliver], None]
"""Takes a part of a request that was admitted; it is not refused for want of room."""


class InParts:
    """Owns the answers to the parts of `request` so far. `start` queues the first part, each answer the next."""

    def __init__(self, request: Request, deliver: Deliver, num_rows: int, queue: Queue) -> None:
        self._request = request
        self._deliver = deliver
        self._num_rows = num_rows
        self._queue = queue
        self._answers: list[NamedArrays] = []
        self._receipts: list[Receipt] = []
        self._first = 0

    def first(self) -> Request:
        """The first part; its answer goes to `answered`."""
        return self._part()

    def answered(self, result: Response | BaseException) -> None:
        """Take the answer to a part: queue the next, or deliver."""
        if not isinstance(result, Response):
            self._deliver(self._placed(result))
            return
        self._answers.append(result.outputs)
        if result.receipt is not None:
            self._receipts.append(result.receipt)
        self._first += self._num_rows
        if self._first < self._request.num_rows:
            self._queue(self._part(), self.answered)
            return
        whole = {name: np.concatenate([part[name] for part in self._answers]) for name in self._answers[0]}
        self._deliver(Response(self._request, whole, _summed(self._receipts)))

    def _part(self) -> Request:
        whole, stop = self._request, min(self._first + self._num_rows, self._request.num_rows)
        inputs = _sliced(whole.inputs, self._first, stop)
        whole.part = replace(whole, inputs=inputs, num_rows=stop - self._first, part=None)
        return whole.part

    def _placed(self, error: BaseException) -> BaseException:
        """A refusal names a row of its part; the caller knows those of the whole."""
        if not self._first or not isinstance(error, RequestError):
            return error
        return RequestError(f"in the rows from {self._first} on, counted anew: {error.message}", detail=error.detail)


def _summed(receipts: Sequence[Receipt]) -> Receipt | None:
    """The times of all parts together, and the largest of their runs."""
    if not receipts:
        return None
    return Receipt(
        sum(one.queue_s for one in receipts),
        sum(one.compute_s for one in receipts),
        max(one.batch_rows for one in receipts),
        receipts[-1].plan,
    )


def _sliced(inputs: Inputs, start: int, stop: int) -> Inputs:
    if isinstance(inputs, Mapping):
        return {name: values[start:stop] for name, values in inputs.items()}
    return inputs[start:stop]
