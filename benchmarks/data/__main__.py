"""`python -m benchmarks.data`: our data layer beside its peers, interleaved; a memory limit is a control group."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.data import database, generate
from benchmarks.data.cases import CASES, Case
from benchmarks.data.limits import inside, memory_limit
from benchmarks.environments import python_of
from benchmarks.measure import (
    OURS,
    BenchmarkError,
    Row,
    argument_parser,
    choose,
    compare,
    interleave,
    main,
    run_json,
    say,
)
from benchmarks.training.data import FASHION_MNIST, fashion_mnist

PEERS = tuple(dict.fromkeys(peer for case in CASES.values() for peer in case.peers))
TIMEOUT_S = 900.0  # the slowest engine takes 40 s on a quiet machine
MIB = 1 << 20


def measure_all(arguments: argparse.Namespace) -> list[Row]:
    """Every chosen case with those of the chosen peers that it has."""
    chosen = [CASES[name] for name in choose("--case", arguments.case, tuple(CASES))]
    peers = choose("--peer", arguments.peer, PEERS)
    if any(case.kind == "images" for case in chosen):
        fashion_mnist(arguments.images)  # missing data is told before anything is set up
    rows = []
    for case in chosen:
        able = [peer for peer in case.peers if peer in peers]
        if able:
            rows += _measure_case(case, able, arguments)
    return rows


def _measure_case(case: Case, peers: list[str], arguments: argparse.Namespace) -> list[Row]:
    num_rounds = arguments.rounds or (3 if arguments.quick else 5)
    pythons = {OURS: sys.executable, **{peer: python_of(peer) for peer in peers}}
    num_rows = case.num_quick_rows if arguments.quick else case.num_rows
    shapes: list[Any] = []
    with inputs_of(case, num_rows, arguments) as inputs:

        def measure(engine: str) -> dict[str, float]:
            seen = _run(case, engine, pythons[engine], inputs)
            if "shapes" in seen:
                shapes.append(seen["shapes"])
                if seen["shapes"] != shapes[0]:
                    raise BenchmarkError(f"{engine} must make what others make, {shapes[0]}, got {seen['shapes']}")
            return {case.name: float(seen["value"])}

        if case.name == "second-start":
            measure(OURS)  # the first start
        say(f"{case.name}: {num_rounds} rounds of {num_rows} rows")
        return compare(interleave([OURS, *peers], num_rounds, measure), {case.name: case.quantity})


def _run(case: Case, engine: str, python: str, inputs: Mapping[str, str]) -> dict[str, Any]:
    command = [python, "-m", "benchmarks.data.engine", engine, case.name, json.dumps(inputs)]
    with ExitStack() as limits:
        if case.limit_bytes is not None and (engine == OURS or case.limits_peers):
            command = inside(limits.enter_context(memory_limit(case.limit_bytes)), command)
        seen = run_json(command, timeout_s=TIMEOUT_S)
    say(f"    {engine} had at most {seen['peak_bytes'] / MIB:,.0f} MiB")
    return seen


@contextmanager
def inputs_of(case: Case, num_rows: int, arguments: argparse.Namespace) -> Iterator[dict[str, str]]:
    """What the engines of `case` read, generated or started where it is not there; strings by name."""
    folder = arguments.data
    with ExitStack() as owned:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = owned.enter_context(TemporaryDirectory(dir=folder, prefix="scratch-"))
        inputs = {"scratch": scratch, "num_rows": str(num_rows)}
        if case.kind == "table":
            table, parts = generate.table(folder, num_rows), generate.parts(folder, num_rows)
            yield {**inputs, "table": str(table), "parts": str(parts), "cache": scratch}
        elif case.kind == "database":
            url = owned.enter_context(database.server_with_table(num_rows))
            yield {**inputs, "url": url, "name": database.TABLE}
        elif case.kind == "arrays":
            arrays = generate.arrays(folder, num_rows, case.width)
            yield {**inputs, "arrays": str(arrays), "epochs": "3" if arguments.quick else "5"}
        else:
            yield {**inputs, "images": str(arguments.images), "epochs": "3" if arguments.quick else "4"}


if __name__ == "__main__":
    parser = argument_parser("The data layer beside peers.")
    parser.add_argument("--data", type=Path, default=generate.FOLDER, metavar="DIR", help="for generated data")
    parser.add_argument("--images", type=Path, default=FASHION_MNIST, metavar="DIR", help="folder of Fashion-MNIST")
    sys.exit(main(measure_all, parser))
