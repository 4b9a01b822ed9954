"""A foreign graph on a few rows: does it run, does it end, and is a row's answer its own?

Called in the process that judges the graph. A batch on a server holds the rows of several callers: a graph whose first
axis is something else would give one of them what belongs to another.
"""

from __future__ import annotations

import numpy as np

from corelane.core.errors import ConfigError, SkewError
from corelane.core.types import Array, NamedArrays
from corelane.model.candidate import SAFE
from corelane.model.foreign.description import ForeignGraph, neutral_shape
from corelane.model.runtimes.base import Runtime
from corelane.model.runtimes.graph_file import GraphFile
from corelane.model.runtimes.opening import open_runtime
from corelane.model.skew import Tolerance, compare

ALONE = 3  # rows that are asked for one by one too
BATCH_ROWS = 64
FREE_LENGTH = 16  # of neutral rows


def neutral_rows(graph: ForeignGraph) -> dict[str, Array]:
    """Rows of zeros: what every graph that has no other wish takes."""
    return {one.name: np.zeros(neutral_shape(one, ALONE, FREE_LENGTH), dtype=one.dtype) for one in graph.inputs}


def varied_rows(graph: ForeignGraph) -> dict[str, Array]:
    """Rows of which no two are alike, so that a graph that mixes them shows it; of ones and zeros for whole numbers."""
    random = np.random.default_rng(0)
    rows = {one.name: neutral_shape(one, ALONE, FREE_LENGTH) for one in graph.inputs}
    made = {one.name: random.normal(size=rows[one.name]) for one in graph.inputs}
    return {
        one.name: (made[one.name] if one.dtype.startswith("float") else made[one.name] > 0).astype(one.dtype)
        for one in graph.inputs
    }


def opened(graph: bytes) -> Runtime:
    """`graph` in ONNX Runtime on one thread. Raises `BundleError` when it cannot be run."""
    return open_runtime(GraphFile(graph, "the model"), SAFE)


def answers_of(runtime: Runtime, rows: NamedArrays) -> dict[str, Array]:
    """What the graph in `runtime` gives for `rows` [n, ...].

    Raises `BundleError` when it does not take them, `MemoryBudgetError` when it needs more memory than there is,
    `ConfigError` when an output has not a row for each row, or a row's answer changes with the rows beside it.
    """
    num_rows = len(next(iter(rows.values())))
    parts = [_run(runtime, rows, start, start + BATCH_ROWS) for start in range(0, num_rows, BATCH_ROWS)]
    answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    alone = [_run(runtime, rows, place, place + 1) for place in range(min(ALONE, num_rows))]
    together = {name: values[: len(alone)] for name, values in answers.items()}
    _check_own({name: np.concatenate([one[name] for one in alone]) for name in answers}, together)
    return answers


def _run(runtime: Runtime, rows: NamedArrays, start: int, stop: int) -> dict[str, Array]:
    part = {name: np.ascontiguousarray(values[start:stop]) for name, values in rows.items()}
    num_rows = len(next(iter(part.values())))
    answers = runtime.run(part)
    for name, values in answers.items():
        if values.ndim == 0 or len(values) != num_rows:
            raise ConfigError(
                f"each output must have a row for each row of the inputs, got the shape {list(values.shape)} of "
                f"{name[:80]!r} for {num_rows} rows; export it with a free first axis"
            )
    return answers


def _check_own(alone: NamedArrays, together: NamedArrays) -> None:
    alone, together = _finite(alone), _finite(together)
    try:
        compare(together, alone, Tolerance.of_answers(together))
    except SkewError as error:
        raise ConfigError(
            "each row must have an answer of its own, got another for the same row among others; the first axis of "
            "every input must be the rows, and the network in evaluation mode",
            detail=str(error),
        ) from error


def _finite(answers: NamedArrays) -> NamedArrays:
    return {name: np.nan_to_num(values) for name, values in answers.items()}
