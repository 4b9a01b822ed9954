"""`python -m benchmarks.training`: examples per second of our Trainer and of its peers, interleaved; what the
framework takes of them, and how long the first step is in coming.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

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
from benchmarks.training.cases import BARS, CASES, FRAMEWORK_SHARE, RATE, framework_case
from benchmarks.training.data import FASHION_MNIST, fashion_mnist
from benchmarks.training.engine import module_of

PEERS = tuple(
    path.stem.replace("_", "-")
    for path in sorted((Path(__file__).parent / "peers").glob("*.py"))
    if path.stem != "__init__"
)
HAND_LOOP = "hand-loop"
TIMEOUT_S = 900.0  # the slowest engine takes 40 s for the CNN on a quiet machine


def measure_all(arguments: argparse.Namespace) -> list[Row]:
    """Every chosen case with every chosen peer that can run it."""
    cases = choose("--case", arguments.case, tuple(CASES))
    peers = choose("--peer", arguments.peer, PEERS)
    fashion_mnist(arguments.data)  # missing data is told before anything is set up
    rows = []
    for case in cases:
        able = [peer for peer in peers if case in importlib.import_module(module_of(peer)).CASES]
        with _plan_of(case, arguments.data) as plan:
            rows += _measure_case(case, able, plan, arguments)
    return rows


def _measure_case(case: str, peers: list[str], plan: Path, arguments: argparse.Namespace) -> list[Row]:
    num_rounds = arguments.rounds or (2 if arguments.quick else 5)
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
    return [*rows, *(framework_row(row) for row in rows if row.peer == HAND_LOOP)]


def framework_row(row: Row) -> Row:
    """What our abstractions took of the time, in percent, beside what they may; from the row against hand-loop.

    The ratio compares what is left of the speed, so that it is above 1 when the bar is met, and has no pole at zero.
    """
    share, most = 100 * (1 - row.ratio), 100 * FRAMEWORK_SHARE
    return Row(framework_case(row.case), BAR, share, most, "% of the time", (100 - share) / (100 - most), bar=1.0)


def as_trainer() -> list[str]:
    """The start of a command line whose process waits at barriers as the trainer of `corelane train` does."""
    from corelane.app.config import spin_setting

    return [*spin_setting(), sys.executable]


@contextmanager
def _plan_of(case: str, data: Path) -> Iterator[Path]:
    """The plan of `case`, searched for 200 epochs in a process of its own, as a file."""
    with TemporaryDirectory(prefix="corelane-benchmark-") as folder:
        plan = Path(folder, "plan.json")
        say(f"{case}: searching the plan")
        command = [*as_trainer(), "-m", "benchmarks.training.planned", case, str(data), str(plan)]
        say(f"  {run_json(command, timeout_s=TIMEOUT_S)['reason']}")
        yield plan


if __name__ == "__main__":
    parser = argument_parser("Training throughput beside peers.")
    parser.add_argument("--data", type=Path, default=FASHION_MNIST, metavar="DIR", help="folder of Fashion-MNIST")
    sys.exit(main(measure_all, parser))
