"""`python -m benchmarks.inference`: serving plans beside exhaustive searches, int8 and int16 beside float32, and a call
under a quota of one CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.data.limits import inside
from benchmarks.inference.cases import (
    BARS,
    MICROSECONDS,
    MINILM,
    MOST_DROP_POINTS,
    MOST_GROWTH,
    MOST_SIZE,
    MOST_THROTTLED,
    NETS,
    OFFLINE_ROWS,
    PLAN_LOSS,
    QUOTA_S,
    ROWS,
)
from benchmarks.inference.offline import write_rows
from benchmarks.inference.packages import fashion_cnn, untrained
from benchmarks.inference.quota import cpu_quota
from benchmarks.measure import BAR, OURS, Row, argument_parser, choose, compare, interleave, main, run_json, say
from benchmarks.training.data import FASHION_MNIST, fashion_mnist

TIMEOUT_S = 1800.0
OBJECTIVES = ("latency", "throughput")


def plans(arguments: argparse.Namespace) -> list[Row]:
    """Each network's plan for each objective beside the best of all candidates."""
    rows = []
    for net in (*NETS, MINILM):
        for objective in OBJECTIVES:
            command = [sys.executable, "-m", "benchmarks.inference.plans", net, objective]
            seen = [run_json(command, timeout_s=TIMEOUT_S) for _ in range(_num_rounds(arguments))]
            for one in seen:
                say(f"  {net} {objective}: {one['chosen']}; best {one['best']}")
            ours, best = (1e6 * statistics.median(one[name] for one in seen) for name in ("chosen_s", "best_s"))
            ratio = statistics.median(one["best_s"] / one["chosen_s"] for one in seen)
            name = f"{net} plan-{objective}"
            rows.append(Row(name, "exhaustive", ours, best, MICROSECONDS.unit, ratio, 1 / (1 + PLAN_LOSS)))
    return rows


def int8(arguments: argparse.Namespace) -> list[Row]:
    """Fashion-MNIST's CNN in int8 and int16 beside float32: speed, what accuracy it costs, and size."""
    from corelane.app import optimize
    from corelane.model.package import ModelPackage

    fashion_mnist(arguments.data)  # missing data is told before anything is trained
    with TemporaryDirectory(prefix="corelane-benchmark-") as name:
        folder = Path(name)
        path = fashion_cnn(arguments.data, folder)
        images, labels = (str(arguments.data / f"t10k-{what}-ubyte.gz") for what in ("images-idx3", "labels-idx1"))
        answer = optimize(path, data=images, labels=labels, max_accuracy_drop=0.05, cache=folder / "cache")
        package = ModelPackage.load(Path(answer["package"]))
        names = {OURS: "int8", "fp32": "fp32", "int16": "int16"}

        def measure(engine: str) -> dict[str, float]:
            command = [sys.executable, "-m", "benchmarks.inference.precisions", str(package.path), names[engine]]
            seen = run_json(command, timeout_s=TIMEOUT_S)
            say(f"  {seen['candidate']}")
            return {"int8-cnn": seen["rows_per_s"]}

        rows = compare(interleave(list(names), _num_rounds(arguments), measure), {"int8-cnn": ROWS}, BARS)
    of_int8 = next(one for one in answer["graphs"] if one["graph"] == "int8")
    drop, size = 100 * of_int8["drop"], of_int8["size"]
    return [
        *rows,
        Row(
            "int8-cnn accuracy-drop",
            BAR,
            drop,
            MOST_DROP_POINTS,
            "points",
            (100 - drop) / (100 - MOST_DROP_POINTS),
            1.0,
        ),
        Row("int8-cnn size", BAR, size, MOST_SIZE, "x of fp32", MOST_SIZE / size, 1.0),
    ]


def throttled(arguments: argparse.Namespace) -> list[Row]:
    """The MLP on two cores with the time of one: the 99th percentile of calls, and how often the kernel stopped us."""
    from corelane.model.package import ModelPackage

    shares = []
    with TemporaryDirectory(prefix="corelane-benchmark-") as name:
        graph = ModelPackage.load(untrained(NETS["mlp"], Path(name))).graphs["fp32"]

        def measure(engine: str) -> dict[str, float]:
            command = [sys.executable, "-m", "benchmarks.inference.throttled", engine, str(graph), str(QUOTA_S)]
            with cpu_quota(1.0) as group:
                seen = run_json(inside(group, [*command, str(group)]), timeout_s=TIMEOUT_S)
            say(f"  {engine}: {seen['throttled']} of {seen['periods']} periods throttled")
            if engine == OURS:
                shares.append(seen["throttled"] / seen["periods"])
            return {"throttled-mlp": 1e6 * seen["p99_s"]}

        medians = interleave([OURS, "ort-default"], _num_rounds(arguments), measure)
    share = statistics.median(shares)
    ratio = (1 - share) / (1 - MOST_THROTTLED)
    periods = Row("throttled-mlp periods", BAR, 100 * share, 100 * MOST_THROTTLED, "% throttled", ratio, 1.0)
    return [*compare(medians, {"throttled-mlp": MICROSECONDS}, BARS), periods]


def offline(arguments: argparse.Namespace) -> list[Row]:
    """A Parquet file scored into another; without `--quick` also whether memory stays flat over ten times the rows."""
    with TemporaryDirectory(prefix="corelane-benchmark-") as name:
        folder = Path(name)
        package = untrained(NETS["mlp"], folder)
        peaks = []

        def measure(engine: str, num_rows: int = OFFLINE_ROWS) -> dict[str, float]:
            data = folder / f"{num_rows}.parquet"
            if not data.exists():
                write_rows(data, num_rows)
            command = [sys.executable, "-m", "benchmarks.inference.offline", engine, str(package), str(data)]
            seen = run_json([*command, str(folder / "answers.parquet")], timeout_s=TIMEOUT_S)
            if engine == OURS:
                peaks.append(seen["peak_bytes"] / 1e6)
            return {"offline-tabular": seen["rows_per_s"]}

        medians = interleave([OURS, "hand-script"], _num_rounds(arguments), measure)
        rows = compare(medians, {"offline-tabular": ROWS}, BARS)
        if not arguments.quick:
            most = MOST_GROWTH * statistics.median(peaks)
            measure(OURS, 10 * OFFLINE_ROWS)
            rows.append(
                Row("offline-tabular memory", BAR, peaks[-1], most, "MB at 10 million rows", most / peaks[-1], 1.0)
            )
    return rows


CASES: Mapping[str, tuple[Callable[[argparse.Namespace], list[Row]], tuple[str, ...]]] = {
    "plan-vs-exhaustive": (plans, ("exhaustive",)),
    "int8-cnn": (int8, ("fp32", "int16", BAR)),
    "offline-tabular": (offline, ("hand-script", BAR)),
    "throttled-mlp": (throttled, ("ort-default", BAR)),
}


def measure_all(arguments: argparse.Namespace) -> list[Row]:
    """Every chosen case; of its rows those with a chosen peer."""
    cases = choose("--case", arguments.case, tuple(CASES))
    known = tuple(dict.fromkeys(peer for _, peers in CASES.values() for peer in peers))
    peers = choose("--peer", arguments.peer, known)
    chosen = [CASES[case] for case in cases]
    rows = [row for measure, able in chosen if set(able) & set(peers) for row in measure(arguments)]
    return [row for row in rows if row.peer in peers]


def _num_rounds(arguments: argparse.Namespace) -> int:
    return arguments.rounds or (1 if arguments.quick else 5)


if __name__ == "__main__":
    parser = argument_parser("Running trained networks: plans, precisions, a quota.")
    parser.add_argument("--data", type=Path, default=FASHION_MNIST, metavar="DIR", help="folder of Fashion-MNIST")
    sys.exit(main(measure_all, parser))
