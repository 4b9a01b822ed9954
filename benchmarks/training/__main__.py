"""`python -m benchmarks.training`: examples per second of our Trainer and of its peers, interleaved."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

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
from benchmarks.training.cases import CASES, FASHION_MNIST, RATE, fashion_mnist
from benchmarks.training.engine import module_of

PEERS = tuple(
    path.stem.replace("_", "-")
    for path in sorted((Path(__file__).parent / "peers").glob("*.py"))
    if path.stem != "__init__"
)
TIMEOUT_S = 900.0  # the slowest engine takes 40 s for the CNN on a quiet machine


def measure_all(arguments: argparse.Namespace) -> list[Row]:
    """Every chosen case with every chosen peer that can run it."""
    cases = choose("--case", arguments.case, tuple(CASES))
    peers = choose("--peer", arguments.peer, PEERS)
    fashion_mnist(arguments.data)  # missing data is told before anything is set up
    num_rounds = arguments.rounds or (2 if arguments.quick else 5)
    num_epochs = 3 if arguments.quick else 4
    rows = []
    for case in cases:
        able = [peer for peer in peers if case in importlib.import_module(module_of(peer)).CASES]
        pythons = {OURS: sys.executable, **{peer: python_of(peer) for peer in able}}
        say(f"{case}: {num_rounds} rounds of {num_epochs} epochs")

        def measure(engine: str, case: str = case, pythons: dict[str, str] = pythons) -> dict[str, float]:
            command = [pythons[engine], "-m", "benchmarks.training.engine", engine, case]
            rates = run_json([*command, str(arguments.data), str(num_epochs)], timeout_s=TIMEOUT_S)["rates"]
            if len(rates) != num_epochs:
                raise BenchmarkError(f"{engine} must report {num_epochs} epochs, got {len(rates)}")
            return {case: max(rates[1:])}

        medians = interleave([OURS, *able], num_rounds, measure)
        rows += compare(medians, {case: RATE})
    return rows


if __name__ == "__main__":
    parser = argument_parser("Training throughput beside peers.")
    parser.add_argument("--data", type=Path, default=FASHION_MNIST, metavar="DIR", help="folder of Fashion-MNIST")
    sys.exit(main(measure_all, parser))
