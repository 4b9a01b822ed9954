"""`corelane load`: a load on a running server, from one process or several, and what it came to."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from corelane.client import Client
from corelane.client.arrivals import Shape, Step, arrivals
from corelane.client.load import Outcome, joined, run_load
from corelane.client.load_report import load_report
from corelane.client.wire import Call, infer_call, predict_call
from corelane.core.errors import ConfigError
from corelane.core.types import Array, JsonObject
from corelane.web.tensors import TYPES

TOKEN = "CORELANE_TOKEN"  # noqa: S105 - its name; arguments are seen by everybody on the machine
BODIES = 64  # different requests, sent in turn
START_WITHIN_S = 60.0  # until all processes of a load are there
_START: list[Barrier] = []  # in each of them
FREE_LENGTH = 16  # of made-up tensors, where a length is free


def load(
    url: str,
    model: str,
    steps: Sequence[Step],
    *,
    shape: Shape = "poisson",
    rows: int = 1,
    records: Path | None = None,
    processes: int = 1,
    timeout_s: float | None = None,
    patience_s: float = 30.0,
    seed: int = 0,
) -> JsonObject:
    """Ask `model` at `url` as `steps` say: (requests a second, seconds) one after another.

    Requests hold `rows` rows of made-up numbers as the model's metadata describe them, or the records of a file of JSON
    lines in turn. The environment's CORELANE_TOKEN, if any, is sent as the token. With `timeout_s` the server is told
    after how long an answer is of no more use. Raises `ConfigError`, and what the server answers when it is asked for
    the metadata.
    """
    if processes < 1 or rows < 1:
        raise ConfigError(f"processes and rows must be at least 1, got {processes} and {rows}")
    due_s = arrivals(steps, shape, seed)
    token = os.environ.get(TOKEN)
    calls = _of_records(model, records, rows) if records is not None else _made_up(url, model, rows, seed, token)
    if token is not None:
        calls = [call.by(token) for call in calls]
    if timeout_s is not None:
        calls = [call.within(timeout_s) for call in calls]
    shares = [due_s[index::processes] for index in range(min(processes, len(due_s)))]
    if len(shares) == 1:
        return load_report(_run(url, calls, shares[0], patience_s))
    context = get_context("spawn")
    start = context.Barrier(len(shares), timeout=START_WITHIN_S)
    with ProcessPoolExecutor(len(shares), context, initializer=_keep, initargs=(start,)) as pool:
        done = [pool.submit(_run_together, url, calls, share, patience_s) for share in shares]
        outcomes = [one.result() for one in done]
    whole = joined(outcomes)
    order = np.argsort(whole.due_s, kind="stable")
    return load_report(Outcome(whole.due_s[order], whole.latency_s[order], whole.status[order], whole.lag_s[order]))


def _keep(start: Barrier) -> None:
    """Keep what all processes of a load begin at; called first in each."""
    _START.append(start)


def _run_together(url: str, calls: Sequence[Call], due_s: Array, patience_s: float) -> Outcome:
    """This process's share, from the moment at which all of them are there."""
    _START[0].wait()
    return _run(url, calls, due_s, patience_s)


def _run(url: str, calls: Sequence[Call], due_s: Array, patience_s: float) -> Outcome:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_load(url, calls, due_s, patience_s=patience_s))


def _of_records(model: str, path: Path, rows: int) -> list[Call]:
    try:
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--records must be a file of JSON lines, got {path}: {error}") from error
    if not records or not all(isinstance(record, dict) for record in records):
        raise ConfigError(f"--records must hold a JSON object a line, got {path} without")
    batches = [records[start : start + rows] for start in range(0, min(len(records), BODIES * rows), rows)]
    return [predict_call(model, batch) for batch in batches]


def _made_up(url: str, model: str, rows: int, seed: int, token: str | None) -> list[Call]:
    random = np.random.default_rng(seed)
    with Client(url, token=token) as client:
        inputs = client.metadata(model)["inputs"]
    return [infer_call(model, {one["name"]: _tensor(one, rows, random) for one in inputs}) for _ in range(BODIES)]


def _tensor(described: Mapping[str, Any], rows: int, random: np.random.Generator) -> Any:
    shape = [rows, *(FREE_LENGTH if length < 0 else length for length in described["shape"][1:])]
    datatype = described["datatype"]
    if datatype == "BYTES":
        return np.full(shape, "", dtype=object)
    dtype = TYPES[datatype]
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)
