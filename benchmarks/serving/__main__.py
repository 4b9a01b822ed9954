"""`python -m benchmarks.serving`: requests per second and latency of `corelane serve` and of its peers, interleaved."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from benchmarks.environments import python_of
from benchmarks.measure import BAR, OURS, BenchmarkError, Row, argument_parser, choose, compare, interleave, main, say
from benchmarks.serving import footprint, forms, load, ours, raw
from benchmarks.serving.cases import BARS, CASES, RAW_CASES, RAW_RUNTIME, REQUESTS, RawCase, example_row
from benchmarks.serving.endpoint import Endpoint, running

SERVERS = tuple(
    path.stem.replace("_", "-")
    for path in sorted((Path(__file__).parent / "peers").glob("*.py"))
    if path.stem != "__init__"
)
PEERS = (*SERVERS, RAW_RUNTIME, forms.OWN_JSON, BAR)
WARM_UP_S = 1


def measure_all(arguments: argparse.Namespace) -> list[Row]:
    """Every chosen case with every chosen peer that can run it; each server is started anew in each round."""
    cases = choose("--case", arguments.case, (*CASES, *forms.CASES, *RAW_CASES, *footprint.CASES))
    peers = choose("--peer", arguments.peer, PEERS)
    num_rounds = arguments.rounds or (3 if arguments.quick else 7)
    duration_s = 3 if arguments.quick else 6
    rows: list[Row] = []
    if servers := [peer for peer in peers if peer in SERVERS]:
        rows += _beside_servers([case for case in cases if case in CASES], servers, num_rounds, duration_s)
    if forms.OWN_JSON in peers and (wanted := [case for case in cases if case in forms.CASES]):
        with tempfile.TemporaryDirectory() as folder:
            made, row = ours.make_package(Path(folder), example_row()), example_row()
            rows += forms.measure(made, row, wanted, num_rounds, duration_s)
    if RAW_RUNTIME in peers:
        rows += [_beside_runtime(RAW_CASES[case], num_rounds, duration_s) for case in cases if case in RAW_CASES]
    if BAR in peers and (wanted := [case for case in cases if case in footprint.CASES]):
        with tempfile.TemporaryDirectory() as folder:
            rows += footprint.measure(ours.make_package(Path(folder), example_row()).package, wanted, num_rounds)
    return rows


def _beside_servers(cases: list[str], peers: list[str], num_rounds: int, duration_s: int) -> list[Row]:
    if not cases:
        return []
    modules = {peer: importlib.import_module(f"benchmarks.serving.peers.{peer.replace('-', '_')}") for peer in peers}
    pythons = {peer: python_of(peer) for peer in peers}
    row = example_row()
    with tempfile.TemporaryDirectory() as folder:
        say("making the package ...")
        package, graph, label = ours.make_package(Path(folder), row)
        endpoints = {peer: modules[peer].endpoint(pythons[peer], graph, row) for peer in peers}
        engines = {OURS: ours.endpoint(package, row), **endpoints}
        able = {peer: tuple(modules[peer].CASES) for peer in peers}
        may_fail = {peer for peer in peers if getattr(modules[peer], "MAY_FAIL", False)}

        def measure(engine: str) -> dict[str, float]:
            wanted = [case for case in cases if case in able.get(engine, cases)]
            return _figures(engine, engines[engine], wanted, label, duration_s, may_fail=engine in may_fail)

        medians = interleave(list(engines), num_rounds, measure)
    return compare(medians, {case: CASES[case].quantity for case in cases}, BARS)


def _figures(
    engine: str, endpoint: Endpoint, cases: list[str], label: int, duration_s: int, *, may_fail: bool
) -> dict[str, float]:
    figures = {}
    with running(endpoint, label) as url:
        for name in cases:
            case = CASES[name]
            load.run(url, endpoint.body, num_connections=case.num_connections, duration_s=WARM_UP_S)
            seen = load.run(url, endpoint.body, num_connections=case.num_connections, duration_s=duration_s)
            if seen.num_errors and not may_fail:
                raise BenchmarkError(f"{engine} must answer every request with 200, got {seen.num_errors} errors")
            figures[name] = case.figure(seen)
    return figures


def _beside_runtime(case: RawCase, num_rounds: int, duration_s: int) -> Row:
    """Our server beside its own network in a bare loop."""
    with tempfile.TemporaryDirectory() as folder:
        say(f"making the package of {case.name} ...")
        one = raw.made(case, Path(folder))

        def measure(engine: str) -> dict[str, float]:
            if engine == RAW_RUNTIME:
                return {case.name: raw.loop_rate(one)}
            with running(raw.endpoint(one, case.workers), 0) as url:
                raw.served_rate(one, case, url, WARM_UP_S)
                seen = raw.served_rate(one, case, url, duration_s)
            if seen.num_errors:
                raise BenchmarkError(f"every request must be answered with 200, got {seen.num_errors} errors")
            return {case.name: seen.requests_per_s}

        medians = interleave([OURS, RAW_RUNTIME], num_rounds, measure)
    (row,) = compare(medians, {case.name: REQUESTS}, BARS)
    return row


if __name__ == "__main__":
    sys.exit(main(measure_all, argument_parser("Serving beside peers; needs wrk.")))
