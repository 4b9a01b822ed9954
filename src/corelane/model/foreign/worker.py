"""The process that judges a foreign graph: a folder in, with the file and maybe rows; a folder out, with what it found.

It limits its own memory, processor time and files before it reads a byte. Whoever started it limits its time.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from corelane.core.errors import BundleError, CorelaneError, MemoryBudgetError
from corelane.core.types import Array, NamedArrays
from corelane.machine.cpu import Machine
from corelane.model.foreign.description import ForeignGraph
from corelane.model.runtimes.graph_file import read_graph

MODEL, CHECKED, FOUND, REFUSED = "model.onnx", "checked.onnx", "found.json", "refused.json"
ROWS, ANSWERS = "rows-{}.npz", "answers-{}.npz"
BASE_BYTES = 4 << 30  # of addresses: what the libraries map without a model
GRACE_S = 5  # between the signal that tells of the time and the one that tells nothing
TIMES_SIZE = 8  # and this much for each byte of the file (parsed, rewritten, opened, packed), up to all of the memory


def judge(folder: Path, *, processor_s: int) -> int:
    """Judge `folder`; returns the exit code: 0, or 2 where `REFUSED` says why not."""
    path = folder / MODEL
    _limit(BASE_BYTES + min(TIMES_SIZE * path.stat().st_size, Machine.detect().memory_bytes), processor_s)
    try:
        _judge(folder, path)
    except MemoryBudgetError as error:
        _refuse(folder, _failed(error), error.detail)
        return 2
    except CorelaneError as error:
        _refuse(folder, error, error.detail)
        return 2
    return 0


def _failed(error: MemoryBudgetError) -> BundleError:
    """A runtime raises the same when there is no memory and when it cannot compute what it got."""
    from corelane.model.predictor import is_out_of_memory  # noqa: PLC0415

    if is_out_of_memory(error):
        return BundleError("the model must be opened and run in limited memory, got one that needs more")
    return BundleError(
        "the model must take the rows of --data, got a failure inside it; look at their lengths, and at numbers that "
        "stand for places, such as tokens"
    )


def _refuse(folder: Path, error: CorelaneError, detail: str) -> None:
    told = {"code": error.code, "message": error.message, "detail": detail}
    (folder / REFUSED).write_text(json.dumps(told), "utf-8")


def _judge(folder: Path, path: Path) -> None:
    from corelane.model.foreign.inspecting import inspected  # noqa: PLC0415 - under the limits, as what it reads
    from corelane.model.foreign.trying import (  # noqa: PLC0415
        MOST_NUMBERS,
        answers_of,
        neutral_rows,
        num_numbers,
        opened,
        varied_rows,
    )
    from corelane.model.predictor import is_out_of_memory  # noqa: PLC0415

    checked = folder / CHECKED
    if not checked.exists():
        graph, content = inspected(read_graph(path).content)
        runtime = opened(content)
        for rows in (varied_rows(graph), neutral_rows(graph)):
            try:
                answers_of(runtime, rows)
            except (BundleError, MemoryBudgetError) as error:  # it may want other rows, and will be asked for real ones
                if is_out_of_memory(error):
                    raise
        checked.write_bytes(content)
        (folder / FOUND).write_text(graph.model_dump_json(), "utf-8")
        return
    graph = ForeignGraph.model_validate_json((folder / FOUND).read_bytes())
    runtime = opened(read_graph(checked).content)
    left = MOST_NUMBERS
    for index in range(len(list(folder.glob(ROWS.format("*"))))):
        rows = read_arrays(folder / ROWS.format(index), [one.name for one in graph.inputs])
        answers = answers_of(runtime, rows, left)
        write_arrays(folder / ANSWERS.format(index), answers)
        left -= num_numbers(answers)
        if left <= 0:
            break


def write_arrays(path: Path, arrays: NamedArrays) -> None:
    """Write the arrays without their names, which may be anything, in their order."""
    np.savez(path, *arrays.values())


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """The arrays that `write_arrays` wrote, under `names`. Raises `ValueError` when they are not as many."""
    with np.load(path, allow_pickle=False) as stored:
        return dict(zip(names, (stored[f"arr_{index}"] for index in range(len(stored.files))), strict=True))


def _limit(num_bytes: int, processor_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (processor_s, processor_s + GRACE_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
