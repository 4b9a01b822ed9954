"""In the ledger's exposition a counter never goes back, whoever dies, hangs or is read at that moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelane.core.errors import DataError
from corelane.machine.ledger import MetricsLedger
from corelane.machine.worker_socket import serve_metrics, socket_path


def exposition(count: int, depth: int = 0) -> bytes:
    """A worker's metrics: one counter, one gauge, one histogram."""
    return (
        "# HELP work_total Work.\n# TYPE work_total counter\n"
        f"work_total {count}.0\n"
        "# HELP depth Depth.\n# TYPE depth gauge\n"
        f"depth {depth}.0\n"
        "# HELP wait_seconds Wait.\n# TYPE wait_seconds histogram\n"
        f'wait_seconds_bucket{{le="+Inf"}} {count}.0\nwait_seconds_count {count}.0\nwait_seconds_sum {count}.0\n'
    ).encode()


def samples(text: bytes) -> dict[str, float]:
    """Values by sample name with labels."""
    lines = (line for line in text.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_living_workers_are_summed_and_their_gauges_kept_apart(tmp_path: Path) -> None:
    """Two workers and the supervisor's own metrics make one text."""
    ledger = MetricsLedger(tmp_path / "s", own=lambda: b"# HELP up Up.\n# TYPE up gauge\nup 1.0\n")
    ledger.begin("a", 1)
    ledger.begin("b", 2)
    with (
        serve_metrics(socket_path(tmp_path / "s", "a"), lambda: exposition(3, depth=7)),
        serve_metrics(socket_path(tmp_path / "s", "b"), lambda: exposition(4, depth=8)),
    ):
        found = samples(ledger.render())
    assert found["work_total"] == 7
    assert found["wait_seconds_count"] == 7
    assert (found['depth{worker="a"}'], found['depth{worker="b"}']) == (7, 8)
    assert found['up{worker="supervisor"}'] == 1


def test_counters_survive_their_process_and_gauges_do_not(tmp_path: Path) -> None:
    """After a death the count stays; the successor's count comes on top, through several generations."""
    ledger = MetricsLedger(tmp_path / "s")
    seen = []
    for pid in (1, 2, 3):
        ledger.begin("a", pid)
        seen.append(samples(ledger.render()).get("work_total", 0.0))
        with serve_metrics(socket_path(tmp_path / "s", "a"), lambda: exposition(10, depth=5)):
            seen.append(samples(ledger.render())["work_total"])
        ledger.retire("a", pid)
        dead = samples(ledger.render())
        seen.append(dead["work_total"])
        assert 'depth{worker="a"}' not in dead
    assert seen == [0, 10, 10, 10, 20, 20, 20, 30, 30]


def test_a_worker_that_does_not_answer_keeps_its_last_counters(tmp_path: Path) -> None:
    """It is alive but hangs: its counters stand, its gauges do not."""
    ledger = MetricsLedger(tmp_path / "s")
    ledger.begin("a", 1)
    with serve_metrics(socket_path(tmp_path / "s", "a"), lambda: exposition(10, depth=5)):
        ledger.render()
    silent = samples(ledger.render(timeout_s=0.1))
    assert silent["work_total"] == 10
    assert 'depth{worker="a"}' not in silent


def test_a_death_in_the_middle_of_a_reading_shows_no_count_that_would_be_lost(tmp_path: Path) -> None:
    """The worker answers 12 and dies before the reading ends: 10 was kept of it, so 10 is shown, then and later."""
    ledger = MetricsLedger(tmp_path / "s")
    ledger.begin("a", 1)
    with serve_metrics(socket_path(tmp_path / "s", "a"), lambda: exposition(10)):
        ledger.render()

    def last_words() -> bytes:
        ledger.retire("a", 1)
        return exposition(12)

    with serve_metrics(socket_path(tmp_path / "s", "a"), last_words):
        assert samples(ledger.render())["work_total"] == 10
    assert samples(ledger.render())["work_total"] == 10


def test_a_successor_that_starts_in_the_middle_of_a_reading_is_counted_once(tmp_path: Path) -> None:
    """The text read belongs to neither the dead one nor yet to the ledger; the next reading has it."""
    ledger = MetricsLedger(tmp_path / "s")
    ledger.begin("a", 1)

    def successor() -> bytes:
        ledger.retire("a", 1)
        ledger.begin("a", 2)
        return exposition(3)

    with serve_metrics(socket_path(tmp_path / "s", "a"), successor):
        assert "work_total" not in samples(ledger.render())
    with serve_metrics(socket_path(tmp_path / "s", "a"), lambda: exposition(3)):
        assert samples(ledger.render())["work_total"] == 3


def test_a_text_that_is_no_exposition_names_its_worker(tmp_path: Path) -> None:
    """The error says whose it is; what was known before is not lost by it."""
    ledger = MetricsLedger(tmp_path / "s")
    ledger.begin("a", 1)
    with serve_metrics(socket_path(tmp_path / "s", "a"), lambda: exposition(10)):
        ledger.render()
    with (
        serve_metrics(socket_path(tmp_path / "s", "a"), lambda: b"work_total { oops\n"),
        pytest.raises(DataError, match="worker 'a'"),
    ):
        ledger.render()
    assert samples(ledger.render())["work_total"] == 10
