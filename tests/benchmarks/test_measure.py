"""Engines run in turns; medians over the rounds become ratios that are above 1 when we are better."""

import argparse
import json
import sys

import pytest

from benchmarks import measure
from benchmarks.measure import OURS, BenchmarkError, Quantity, Row, choose, compare, interleave, run_json, table

RATE = Quantity("requests/s", is_higher_better=True)
LATENCY = Quantity("ms", is_higher_better=False)


def test_rounds_alternate_and_turn_round():
    """Each round runs every engine once, every second one in the opposite order; the median is over the rounds."""
    order = []
    values = iter([1.0, 10.0, 20.0, 5.0, 3.0, 30.0])

    def run(engine):
        order.append(engine)
        return {"case": next(values)}

    medians = interleave([OURS, "peer"], 3, run)
    assert order == [OURS, "peer", "peer", OURS, OURS, "peer"]
    assert medians == {OURS: {"case": 3.0}, "peer": {"case": 20.0}}


def test_a_ratio_above_one_means_that_we_are_better():
    """More requests a second and fewer milliseconds are both better."""
    medians = {OURS: {"rate": 30.0, "p50": 0.5}, "peer": {"rate": 10.0, "p50": 1.0}, "partial": {"rate": 60.0}}
    rows = compare(medians, {"rate": RATE, "p50": LATENCY}, {("rate", "peer"): 2.5})
    assert [(row.case, row.peer, row.ratio, row.bar) for row in rows] == [
        ("rate", "peer", 3.0, 2.5),
        ("rate", "partial", 0.5, None),
        ("p50", "peer", 2.0, None),
    ]


def test_an_engine_is_a_process_whose_last_line_counts():
    """What an engine prints before its result is ignored; a failure tells the end of what it wrote."""
    command = [sys.executable, "-c", "print('noise'); print('{\"rates\": [1.5]}')"]
    assert run_json(command, timeout_s=30) == {"rates": [1.5]}
    with pytest.raises(BenchmarkError, match="no torch here"):
        run_json([sys.executable, "-c", "raise SystemExit('no torch here')"], timeout_s=30)
    with pytest.raises(BenchmarkError, match="must end within 0 s"):
        run_json([sys.executable, "-c", "import signal; signal.pause()"], timeout_s=0.2)


def test_unknown_cases_and_peers_are_refused_with_the_known_ones():
    """A misspelt name is an error, not an empty table."""
    assert choose("--case", None, ("a", "b")) == ["a", "b"]
    assert choose("--case", ["b", "a"], ("a", "b")) == ["a", "b"]
    with pytest.raises(BenchmarkError, match=r"--peer must be one of a, b, got 'c'"):
        choose("--peer", ["c"], ("a", "b"))


def test_the_json_report_has_machine_versions_and_rows(capsys, monkeypatch):
    """`--json` prints one object with these three keys, and nothing else on standard output."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--json", "--quick"])
    asked = []

    def measure_all(arguments: argparse.Namespace) -> list[Row]:
        asked.append(arguments.quick)
        return [Row("mlp-b64", "torch-dataloader", 30.0, 20.0, "examples/s", 1.5)]

    assert measure.main(measure_all, measure.argument_parser("title")) == 0
    report = json.loads(capsys.readouterr().out)
    assert asked == [True]
    assert set(report) == {"machine", "versions", "rows"}
    assert report["machine"]["logical_cpus"]
    assert report["versions"]["peers"]["fastapi"]["uvicorn"]
    assert report["rows"] == [
        {
            "case": "mlp-b64",
            "peer": "torch-dataloader",
            "ours": 30.0,
            "theirs": 20.0,
            "unit": "examples/s",
            "ratio": 1.5,
        }
    ]


def test_the_table_is_aligned():
    """Columns line up whatever the figures."""
    rows = [Row("mlp-b64", "hand-loop", 41_234.5, 40_000.0, "examples/s", 1.03), Row("c", "p", 0.21, 0.43, "ms", 2.05)]
    lines = table(rows).splitlines()
    assert lines[0].split() == ["case", "peer", "ours", "theirs", "unit", "ratio"]
    assert lines[1].split() == ["mlp-b64", "hand-loop", "41,234", "40,000", "examples/s", "1.03"]
    assert len({line.index(unit) for line, unit in zip(lines, ("unit", "examples/s", "ms"), strict=True)}) == 1


def test_the_table_tells_what_is_promised_and_missed():
    """A column has the least promised ratio where there is one; a ratio below it is said to be missed."""
    rows = [Row("a", "p", 3.0, 2.0, "s", 1.5, 1.4), Row("b", "p", 3.0, 2.0, "s", 1.5, 1.6), Row("c", "p", 1, 1, "s", 1)]
    head, *lines = [line.split() for line in table(rows).splitlines()]
    assert head[-1] == "bar"
    assert [line[6:] for line in lines] == [["1.40"], ["1.60", "missed"], []]
