"""Requests of bytes whose JSON comes again: what it says of the tensors behind it need not be read and judged twice.

A client that asks the same model again and again sends the same words with other bytes behind them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from corelane.core.types import Array
from corelane.serve.request import Envelope, Inputs, Request
from corelane.web.tensors import TIMEOUT

MOST_BYTES = 4096  # of JSON that is remembered
MOST_FORMS = 16  # that a model remembers


class _View(NamedTuple):
    """A tensor among the bytes: the column it is (None: the matrix), and where and how it lies."""

    name: str | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    num_elements: int
    start: int


class Form(NamedTuple):
    """What JSON said that was read and found right: of so many bytes behind it, and of the answer that is wanted."""

    num_bytes: int
    views: tuple[_View, ...]
    num_rows: int
    outputs: tuple[str, ...] | None
    in_bytes: frozenset[str]

    def filled(self, behind: memoryview, num_bytes: int, envelope: Envelope) -> Request:
        """The request that has `behind` for its tensors and `num_bytes` in all."""
        views = self.views
        inputs: Inputs
        if views[0].name is None:
            inputs = _array(views[0], behind)
        else:
            inputs = {view.name: _array(view, behind) for view in views if view.name is not None}
        return Request(
            inputs,
            self.num_rows,
            num_bytes,
            envelope.deadline_s,
            outputs=self.outputs,
            in_bytes=self.in_bytes,
            wants_receipt=envelope.wants_receipt,
        )


class Forms:
    """Owns the forms of one model's requests, and nothing else."""

    def __init__(self) -> None:
        self._forms: dict[bytes, Form] = {}

    def request(self, text: bytes, behind: memoryview, envelope: Envelope) -> Request | None:
        """The request, if such JSON with so many bytes behind it was remembered."""
        form = self._forms.get(text)
        if form is None or form.num_bytes != len(behind):
            return None
        return form.filled(behind, len(text) + len(behind), envelope)

    def remember(self, text: bytes, behind: memoryview, request: Request) -> None:
        """Know `text` again, of which `request` was made, if all its tensors are what lies behind it, as it lies there,
        and nothing in it belongs to this one request: no id, no deadline, no receipt.
        """
        has_timeout = TIMEOUT.encode() in text or b"\\" in text  # which might spell it in another way
        is_common = request.id is None and not request.wants_receipt and not has_timeout
        if len(text) > MOST_BYTES or not is_common:
            return
        views = _views(request.inputs, len(behind))
        if views:
            if len(self._forms) == MOST_FORMS:
                self._forms.clear()
            self._forms[text] = Form(len(behind), views, request.num_rows, request.outputs, request.in_bytes)


def _views(inputs: Inputs, num_bytes: int) -> tuple[_View, ...]:
    """Where each of `inputs` lies among `num_bytes`, one behind the other; none where they were made from something
    else, or had to be looked at (booleans).
    """
    arrays = inputs if isinstance(inputs, dict) else {None: inputs}
    views: list[_View] = []
    start = 0
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.flags.writeable or array.dtype.kind not in "iuf":
            return ()
        views.append(_View(name, array.dtype, array.shape, math.prod(array.shape), start))
        start += array.nbytes
    return tuple(views) if start == num_bytes else ()


def _array(view: _View, behind: memoryview) -> Array:
    return np.frombuffer(behind, view.dtype, view.num_elements, view.start).reshape(view.shape)
