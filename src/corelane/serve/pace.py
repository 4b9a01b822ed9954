"""How long a run takes, by its number of rows: measured at load, used to choose a thread and a time to come back."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.clock import Clock
from corelane.data.schema import Column
from corelane.data.stages.column import FREE
from corelane.model.golden import Golden
from corelane.model.predictor import Predictor
from corelane.model.skew import raw_columns

MAX_RETRY_AFTER_S = 60.0
NEUTRAL_LENGTH = 16  # of a neutral row, where a length is free
_NUM_RUNS = 7  # the fastest counts: whatever else the machine does only ever adds time
_LONG_S = 500e-6  # of a run that several at a time are worth their threads for
_ENOUGH_S = 0.5  # a model whose runs take longer is judged by fewer of them


@dataclass(frozen=True, slots=True)
class Pace:
    """A straight line through the time of one row and of a full batch: `fixed_s` a run and `row_s` a row."""

    fixed_s: float
    row_s: float

    def expected_s(self, num_rows: int) -> float:
        """Seconds that a run of `num_rows` rows should take."""
        return self.fixed_s + self.row_s * num_rows


UNKNOWN = Pace(fixed_s=0.05, row_s=0.0)
"""Of a network for which there are no rows to measure with: too long for the event loop's thread, and soon corrected.
"""


def measure_pace(
    predictor: Predictor, batch_size: int, clock: Clock, golden: Golden | None = None, *, streams: int = 1
) -> Pace:
    """Run rows, one and `batch_size` of them, and draw the line. It also warms the runtime up.

    Of a long run, `streams` go on at a time, and the line is that of each of them.

    The rows are neutral ones, or the first golden one where the network was not trained here: what that takes for
    neutral is not known.
    """
    is_ours = predictor.pipeline.target is not None

    def columns(num_rows: int) -> Mapping[str, Any]:
        if is_ours or golden is None:
            return neutral_columns(predictor.pipeline.schema.columns, num_rows)
        return raw_columns(golden.rows.take(pa.array(np.zeros(num_rows, dtype=np.int64))))

    one_s = _fastest_run(predictor, columns(1), clock, streams)
    if batch_size == 1:
        return Pace(0.0, one_s)
    full_s = _fastest_run(predictor, columns(batch_size), clock, streams)
    row_s = max(full_s - one_s, 0.0) / (batch_size - 1)
    return Pace(max(one_s - row_s, 0.0), row_s)


def _fastest_run(predictor: Predictor, columns: Mapping[str, Any], clock: Clock, streams: int) -> float:
    alone_s = _fastest(lambda: predictor.predict_columns(columns), clock)
    if streams == 1 or alone_s < _LONG_S:
        return alone_s
    with ThreadPoolExecutor(streams) as pool:
        return _fastest(lambda: list(pool.map(predictor.predict_columns, [columns] * streams)), clock)


def _fastest(run: Callable[[], Any], clock: Clock) -> float:
    begin_s = clock.monotonic()
    fastest_s = float("inf")
    for _ in range(_NUM_RUNS):
        start_s = clock.monotonic()
        run()
        end_s = clock.monotonic()
        fastest_s = min(fastest_s, end_s - start_s)
        if end_s - begin_s > _ENOUGH_S:
            break
    return fastest_s


def neutral_columns(columns: tuple[Column, ...], num_rows: int) -> Mapping[str, Any]:
    """`num_rows` rows that the schema accepts and that mean nothing, as raw columns by name."""
    return {column.name: _neutral(column, num_rows) for column in columns}


def _neutral(column: Column, num_rows: int) -> Any:
    match column.kind:
        case "numeric":
            lowest = -np.inf if column.minimum is None else column.minimum
            highest = np.inf if column.maximum is None else column.maximum
            return np.full(num_rows, min(max(0.0, lowest), highest))
        case "categorical":
            return [column.categories[0] if column.categories else ""] * num_rows
        case "date":
            return ["2000-01-01"] * num_rows
        case "tensor":
            return np.zeros((num_rows, *column.shape), dtype=np.float32)
        case "array":
            lengths = [NEUTRAL_LENGTH if length == FREE else length for length in column.shape]
            return np.zeros((num_rows, *lengths), dtype=column.dtype)
        case "image" if column.encoded:
            return [black_png(column)] * num_rows
        case "image":
            return np.zeros((num_rows, *column.shape), dtype=np.uint8)


def black_png(column: Column) -> bytes:
    """A file of a black image of the column's size."""
    from PIL import Image  # noqa: PLC0415  only models that take image files need it

    height, width, channels = column.shape
    file = io.BytesIO()
    Image.new("L" if channels == 1 else "RGB", (width, height)).save(file, "png")
    return file.getvalue()
