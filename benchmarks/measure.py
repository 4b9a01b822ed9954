"""What every benchmark shares: engines run in turns, each in a process of its own; medians, ratios, JSON and a table.

A machine's speed drifts by tens of percent within minutes, so the figures of one engine only mean something beside the
others' of the same minutes: each round runs every engine once, every second round in the opposite order, and a row
compares the medians over the rounds. Nothing here knows what is measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = "corelane"
BAR = "bar"
"""The peer of a row whose other side is not somebody else's figure but what is promised."""
PACKAGES = ("corelane", "torch", "numpy", "onnxruntime", "granian", "uvloop", "orjson", "pyarrow")


class BenchmarkError(Exception):
    """A benchmark cannot run; the message says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a case measures: its unit, and whether more of it is better."""

    unit: str
    is_higher_better: bool

    def ratio(self, ours: float, theirs: float) -> float:
        """Above 1 when `ours` is better."""
        return ours / theirs if self.is_higher_better else theirs / ours


@dataclass(frozen=True, slots=True)
class Row:
    """One case against one peer. `bar` is the least ratio that is promised, None where there is no promise."""

    case: str
    peer: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    bar: float | None = None


NO_BARS: Mapping[tuple[str, str], float] = {}

Measure = Callable[[str], Mapping[str, float]]
"""Runs the named engine once, in processes of its own, and gives its figure for each case."""


def interleave(engines: Sequence[str], num_rounds: int, measure: Measure) -> dict[str, dict[str, float]]:
    """Run every engine once per round, turning the order round each time; the median per engine and case."""
    samples: dict[str, dict[str, list[float]]] = {engine: {} for engine in engines}
    for number in range(num_rounds):
        for engine in engines if number % 2 == 0 else reversed(engines):
            for case, value in measure(engine).items():
                samples[engine].setdefault(case, []).append(value)
                say(f"  round {number + 1}/{num_rounds}  {case}  {engine}: {_figure(value)}")
    return {
        engine: {case: statistics.median(values) for case, values in cases.items()} for engine, cases in samples.items()
    }


def compare(
    medians: Mapping[str, Mapping[str, float]],
    quantities: Mapping[str, Quantity],
    bars: Mapping[tuple[str, str], float] = NO_BARS,
) -> list[Row]:
    """One row for each case and each peer that measured it, in the order of `quantities` and `medians`.

    `bars` are the least promised ratios, by case and peer.
    """
    rows = []
    for case, quantity in quantities.items():
        for peer, figures in medians.items():
            if peer != OURS and case in figures:
                ours, theirs = medians[OURS][case], figures[case]
                ratio, bar = quantity.ratio(ours, theirs), bars.get((case, peer))
                rows.append(Row(case, peer, ours, theirs, quantity.unit, ratio, bar))
    return rows


def run_json(command: Sequence[str], *, timeout_s: float) -> dict[str, Any]:
    """Run `command` at the root of the repository and read the JSON object on the last line it prints."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{' '.join(command)} must end within {timeout_s:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise BenchmarkError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return dict(json.loads(lines[-1]))


def choose(what: str, asked: Iterable[str] | None, known: Sequence[str]) -> list[str]:
    """The asked names in the order of `known`, all of them when none was asked for."""
    chosen = list(asked or known)
    for name in chosen:
        if name not in known:
            raise BenchmarkError(f"{what} must be one of {', '.join(known)}, got {name!r}")
    return [name for name in known if name in chosen]


def argument_parser(title: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a few minutes")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case; repeatable")
    parser.add_argument("--peer", action="append", metavar="NAME", help="only this peer; repeatable")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many rounds, instead of the usual number")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(measure_all: Callable[[argparse.Namespace], list[Row]], parser: argparse.ArgumentParser) -> int:
    """Parse, measure, print; 2 when the benchmark cannot run here."""
    arguments = parser.parse_args()
    try:
        rows = measure_all(arguments)
    except BenchmarkError as error:
        say(f"benchmarks: {error}")
        return 2
    report = {"machine": machine_facts(), "versions": versions(), "rows": [_json(row) for row in rows]}
    print(json.dumps(report) if arguments.json else table(rows))
    return 0


def _json(row: Row) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if value is not None}


def machine_facts() -> dict[str, Any]:
    """What the figures were measured on, as Corelane itself sees it."""
    from corelane.machine.cpu import Machine

    return Machine.detect().to_json()


def versions() -> dict[str, Any]:
    """Versions of Python and of our own libraries, and each peer's pinned requirements."""
    pinned = {
        path.stem: dict(line.split("==") for line in path.read_text().split() if "==" in line)
        for path in sorted((ROOT / "benchmarks" / "requirements").glob("*.txt"))
    }
    own = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **own, "peers": pinned}


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text; the last column only where something is promised."""
    head = ("case", "peer", "ours", "theirs", "unit", "ratio", "bar")
    cells = [(r.case, r.peer, _figure(r.ours), _figure(r.theirs), r.unit, f"{r.ratio:.2f}", _bar(r)) for r in rows]
    if not any(row.bar for row in rows):
        head, cells = head[:-1], [line[:-1] for line in cells]
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (head, *cells)]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _bar(row: Row) -> str:
    if row.bar is None:
        return ""
    return f"{row.bar:.2f}" + (" missed" if row.ratio < row.bar else "")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def say(text: str) -> None:
    """Tell progress on standard error; standard output holds only the result."""
    print(text, file=sys.stderr, flush=True)
