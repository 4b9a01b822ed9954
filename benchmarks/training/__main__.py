"""`python -m benchmarks.training`: examples per second of our Trainer and of its peers, interleaved, and what is
promised of plans, first steps and saves.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.environments import python_of
from benchmarks.measure import (
    BAR,
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
from benchmarks.training.cases import BARS, CASES, RATE
from benchmarks.training.data import FASHION_MNIST, fashion_mnist
from benchmarks.training.engine import module_of
from benchmarks.training.promises import PROMISES, as_trainer, framework_share, plan_of

PEERS = tuple(
    path.stem.replace("_", "-")
    for path in sorted((Path(__file__).parent / "peers").glob("*.py"))
    if path.stem != "__init__"
)
HAND_LOOP = "hand-loop"
TIMEOUT_S = 900.0  # the slowest engine takes 40 s for the CNN on a quiet machine


def measure_all(arguments: argparse.Namespace) -> list[Row]:
    """Every chosen case with every chosen peer that can run it."""
    cases = choose("--case", arguments.case, (*CASES, *PROMISES))
    peers = choose("--peer", arguments.peer, (*PEERS, BAR))
    fashion_mnist(arguments.data)  # missing data is told before anything is set up
    rows = []
    for case in cases:
        if case in PROMISES:
            rows += PROMISES[case](arguments.data, _num_rounds(arguments)) if BAR in peers else []
        elif able := [peer for peer in peers if peer != BAR and case in importlib.import_module(module_of(peer)).CASES]:
            with plan_of(case, arguments.data) as plan:
                rows += _measure_case(case, able, plan, arguments)
    return rows


def _num_rounds(arguments: argparse.Namespace) -> int:
    return arguments.rounds or (2 if arguments.quick else 5)


def _measure_case(case: str, peers: list[str], plan: Path, arguments: argparse.Namespace) -> list[Row]:
    num_rounds = _num_rounds(arguments)
    num_epochs = 3 if arguments.quick else 4
    pythons = {OURS: as_trainer(), **{peer: [python_of(peer)] for peer in peers}}
    if HAND_LOOP in pythons:
        pythons[HAND_LOOP] = as_trainer()
    say(f"{case}: {num_rounds} rounds of {num_epochs} epochs")

    def measure(engine: str) -> dict[str, float]:
        command = [*pythons[engine], "-m", "benchmarks.training.engine", engine, case]
        rates = run_json([*command, str(arguments.data), str(num_epochs), str(plan)], timeout_s=TIMEOUT_S)["rates"]
        if len(rates) != num_epochs:
            raise BenchmarkError(f"{engine} must report {num_epochs} epochs, got {len(rates)}")
        return {case: max(rates[1:])}

    rows = compare(interleave([OURS, *peers], num_rounds, measure), {case: RATE}, BARS)
    return [*rows, *(framework_share(row) for row in rows if row.peer == HAND_LOOP)]


if __name__ == "__main__":
    parser = argument_parser("Training throughput beside peers.")
    parser.add_argument("--data", type=Path, default=FASHION_MNIST, metavar="DIR", help="folder of Fashion-MNIST")
    sys.exit(main(measure_all, parser))
