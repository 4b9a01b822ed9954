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
BATCH_NUMBERS = 16 << 20  # of its answers: the logits of a language model are millions a row
MOST_NUMBERS = 32 << 20  # of all answers together: they travel in files, and as JSON through the gate
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


def answers_of(runtime: Runtime, rows: NamedArrays, most_numbers: int = MOST_NUMBERS) -> dict[str, Array]:
    """What the graph in `runtime` gives for `rows` [n, ...]: for as many of the first of them as `most_numbers` allow,
    at least one.

    Raises `BundleError` when it does not take them, `MemoryBudgetError` when it needs more memory than there is,
    `ConfigError` when an output has not a row for each row, or a row's answer changes with the rows beside it.
    """
    row_numbers = max(1, num_numbers(_run(runtime, rows, 0, 1)))
    num_rows = min(len(next(iter(rows.values()))), max(1, most_numbers // row_numbers))
    step = min(BATCH_ROWS, max(ALONE, BATCH_NUMBERS // row_numbers))
    parts = [_run(runtime, rows, start, min(start + step, num_rows)) for start in range(0, num_rows, step)]
    answers = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    alone = [_run(runtime, rows, place, place + 1) for place in range(min(ALONE, num_rows))]
    together = {name: values[: len(alone)] for name, values in answers.items()}
    _check_own({name: np.concatenate([one[name] for one in alone]) for name in answers}, together)
    return answers


def num_numbers(arrays: NamedArrays) -> int:
    """How many numbers `arrays` hold together."""
    return sum(values.size for values in arrays.values())


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
    tolerance = Tolerance.of_answers(together)
    try:
        compare(_kinds(together), _kinds(alone), Tolerance(0.0, 0.0))
        compare(_finite(together), _finite(alone), tolerance)
    except SkewError as error:
        raise ConfigError(
            "each row must have an answer of its own, got another for the same row among others; the first axis of "
            "every input must be the rows, and the network in evaluation mode",
            detail=str(error),
        ) from error


def _kinds(answers: NamedArrays) -> NamedArrays:
    """What each number is instead of how large: finite, NaN, or infinity of either sign, as 0, 1, 2 and 3."""
    return {
        name: np.select([np.isnan(values), np.isposinf(values), np.isneginf(values)], [1, 2, 3])
        for name, values in answers.items()
    }


def _finite(answers: NamedArrays) -> NamedArrays:
    return {name: np.where(np.isfinite(values), values, values.dtype.type(0)) for name, values in answers.items()}
