"""`python -m benchmarks.serving`: requests per second and latency of `corelane serve` and of its peers, interleaved."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from benchmarks.environments import python_of
from benchmarks.measure import OURS, BenchmarkError, Row, argument_parser, choose, compare, interleave, main, say
from benchmarks.serving import load, ours
from benchmarks.serving.cases import CASES, example_row
from benchmarks.serving.endpoint import Endpoint, running

PEERS = tuple(
    path.stem.replace("_", "-")
    for path in sorted((Path(__file__).parent / "peers").glob("*.py"))
    if path.stem != "__init__"
)
WARM_UP_S = 1


def measure_all(arguments: argparse.Namespace) -> list[Row]:
    """Every chosen case with every chosen peer that can run it; each server is started anew in each round."""
    cases = choose("--case", arguments.case, tuple(CASES))
    peers = choose("--peer", arguments.peer, PEERS)
    modules = {peer: importlib.import_module(f"benchmarks.serving.peers.{peer.replace('-', '_')}") for peer in peers}
    pythons = {peer: python_of(peer) for peer in peers}
    num_rounds = arguments.rounds or (3 if arguments.quick else 7)
    duration_s = 3 if arguments.quick else 6
    row = example_row()
    with tempfile.TemporaryDirectory() as folder:
        say("making the package ...")
        package, graph, label = ours.make_package(Path(folder), row)
        endpoints = {peer: modules[peer].endpoint(pythons[peer], graph, row) for peer in peers}
        engines = {OURS: ours.endpoint(package, row), **endpoints}
        able = {peer: tuple(modules[peer].CASES) for peer in peers}

        def measure(engine: str) -> dict[str, float]:
            wanted = [case for case in cases if case in able.get(engine, cases)]
            return _figures(engine, engines[engine], wanted, label, duration_s)

        medians = interleave(list(engines), num_rounds, measure)
    return compare(medians, {case: CASES[case].quantity for case in cases})


def _figures(engine: str, endpoint: Endpoint, cases: list[str], label: int, duration_s: int) -> dict[str, float]:
    figures = {}
    with running(endpoint, label) as url:
        for name in cases:
            case = CASES[name]
            load.run(url, endpoint.body, num_connections=case.num_connections, duration_s=WARM_UP_S)
            seen = load.run(url, endpoint.body, num_connections=case.num_connections, duration_s=duration_s)
            if seen.num_errors:
                raise BenchmarkError(f"{engine} must answer every request with 200, got {seen.num_errors} errors")
            figures[name] = case.figure(seen)
    return figures


if __name__ == "__main__":
    sys.exit(main(measure_all, argument_parser("Serving beside peers; needs wrk.")))
