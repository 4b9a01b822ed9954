"""`SystemLogger`: four streams, two forms, the training step as specified, and no harm from a full disk."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from corelane.core.clock import ManualClock
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.observe.metrics import MetricsCollector

CLOCK = ManualClock(1_700_000_000.25)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


def test_each_stream_has_its_file(tmp_path: Path) -> None:
    """A line logged to a stream is in that stream's file and in no other; the properties and the names are the same."""
    with SystemLogger(directory=tmp_path, stream=io.StringIO(), clock=CLOCK) as logger:
        logger.data.info("rows_read", num_rows=3)
        logger.loggers["system"].warning("worker_restarted", worker="0")
        logger.inference.bind(model="digits").error("model_failed")
        assert logger.loggers["training"] is logger.training
    assert entries(tmp_path / "data.jsonl") == [
        {
            "timestamp": "2023-11-14T22:13:20.250000+00:00",
            "level": "info",
            "stream": "data",
            "event": "rows_read",
            "num_rows": 3,
        }
    ]
    assert [entry["event"] for entry in entries(tmp_path / "system.jsonl")] == ["worker_restarted"]
    assert entries(tmp_path / "inference.jsonl")[0]["model"] == "digits"
    assert entries(tmp_path / "training.jsonl") == []


def test_a_training_step_is_logged_and_recorded(tmp_path: Path) -> None:
    """The entry has the specification's fields, and the collector has seen them."""
    metrics = MetricsCollector()
    with SystemLogger(
        directory=tmp_path, metrics=metrics, clock=CLOCK, read_memory_bytes=lambda: 4096, stream=io.StringIO()
    ) as logger:
        logger.log_training_step(50, 0.5, {"accuracy": 0.9}, {"examples_per_s": 1000.0})
        assert logger.metrics_collector is metrics
    (entry,) = entries(tmp_path / "training.jsonl")
    assert entry.pop("timestamp") == "2023-11-14T22:13:20.250000+00:00"
    assert entry == {
        "level": "info",
        "stream": "training",
        "event": "training_step",
        "step": 50,
        "loss": 0.5,
        "metrics": {"accuracy": 0.9},
        "timing": {"examples_per_s": 1000.0},
        "memory_usage": 4096,
    }
    assert metrics.registry.get_sample_value("corelane_training_quality", {"metric": "accuracy"}) == 0.9
    assert metrics.registry.get_sample_value("corelane_system_resident_bytes") == 4096


def test_a_loss_that_is_not_a_number_is_logged_as_such(tmp_path: Path) -> None:
    """The one step that must not vanish from the log: NaN is written in words and the gauge holds it."""
    with SystemLogger(directory=tmp_path, stream=io.StringIO()) as logger:
        logger.log_training_step(1, float("nan"), {}, {})
        assert b"corelane_training_loss NaN" in logger.metrics_collector.render()
    assert entries(tmp_path / "training.jsonl")[0]["loss"] == "nan"


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [("auto", io.StringIO, True), ("auto", Terminal, False), ("json", Terminal, True), ("human", io.StringIO, False)],
)
def test_people_get_words_and_pipes_get_json(
    log_format: Literal["auto", "json", "human"], stream: type[io.StringIO], is_json: bool
) -> None:
    """`auto` looks at the stream; `json` and `human` do not."""
    terminal = stream()
    SystemLogger(ObserveConfig(log_format=log_format), stream=terminal).data.info("rows_read", num_rows=3)
    assert terminal.getvalue().startswith("{") is is_json
    assert "rows_read" in terminal.getvalue()


def test_steps_stay_off_a_terminal_that_shows_progress() -> None:
    """Where a person looks at a progress bar, step lines would only scroll; other training events are shown."""
    stream = Terminal()
    logger = SystemLogger(stream=stream)
    logger.log_training_step(1, 0.5, {}, {})
    logger.training.info("checkpoint_saved", step=1)
    assert "training_step" not in stream.getvalue()
    assert "checkpoint_saved step=1" in stream.getvalue()


def test_levels_below_the_configured_one_are_left_out() -> None:
    """`log_level: warning` drops debug and info, on every stream."""
    stream = io.StringIO()
    logger = SystemLogger(ObserveConfig(log_level="warning"), stream=stream)
    for one in logger.loggers.values():
        one.debug("a")
        one.info("b")
        one.warning("c")
        one.error("d")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["c", "d"] * 4


def test_text_from_outside_cannot_forge_an_entry(tmp_path: Path) -> None:
    """A model name with a whole forged line in it stays one field of one line, in the file and on the terminal."""
    name = 'x\n{"event":"forged"}\r\n12:00:00 error system forged \x1b[2J'
    stream = Terminal()
    with SystemLogger(directory=tmp_path, stream=stream) as logger:
        logger.inference.info("model_loaded", model=name)
    assert entries(tmp_path / "inference.jsonl")[0]["model"] == name
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_field_cannot_replace_the_head_of_an_entry(tmp_path: Path) -> None:
    """A caller's `level` or `stream` field does not change where an entry says it comes from."""
    with SystemLogger(directory=tmp_path, stream=io.StringIO()) as logger:
        logger.data.info("rows_read", level="error", stream="system")
    (entry,) = entries(tmp_path / "data.jsonl")
    assert (entry["level"], entry["stream"]) == ("info", "data")


def test_an_exception_is_logged_with_its_traceback(tmp_path: Path) -> None:
    """`.exception(...)` inside a handler keeps the traceback in one field."""
    with SystemLogger(directory=tmp_path, stream=io.StringIO()) as logger:
        try:
            float("bad row")
        except ValueError:
            logger.data.exception("source_failed")
    (entry,) = entries(tmp_path / "data.jsonl")
    assert entry["level"] == "error"
    assert "ValueError: could not convert" in entry["exception"]
    assert __file__ in entry["exception"]


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    """Nothing raises, the terminal is told once, and the lost lines are counted in the logger and in the metrics."""
    (tmp_path / "training.jsonl").symlink_to("/dev/full")
    stream = Terminal()
    with SystemLogger(directory=tmp_path, stream=stream, clock=CLOCK) as logger:
        for step in range(5):
            logger.log_training_step(step, 0.5, {}, {})
        logger.data.info("rows_read")
        assert logger.num_dropped == 5
        metrics = logger.metrics_collector
    assert metrics.registry.get_sample_value("corelane_system_dropped_log_lines_total", {"stream": "training"}) == 5
    assert stream.getvalue().count("log_lines_dropped") == 1
    assert 'reason="No space left on device"' in stream.getvalue()
    assert len(entries(tmp_path / "data.jsonl")) == 1


def test_a_directory_is_optional() -> None:
    """Without one, lines go to the terminal only, and closing has nothing to do."""
    stream = io.StringIO()
    logger = SystemLogger(stream=stream)
    logger.close()
    logger.system.info("still_there")
    assert json.loads(stream.getvalue())["event"] == "still_there"


def test_a_step_is_cheap_enough_for_each_log_interval(tmp_path: Path) -> None:
    """About 30 us were measured; a millisecond in the best of ten rounds would be a fault."""
    rounds = []
    with SystemLogger(directory=tmp_path, stream=Terminal(), read_memory_bytes=lambda: 1) as logger:
        for _ in range(10):
            start = time.perf_counter()
            for step in range(50):
                logger.log_training_step(step, 0.5, {"accuracy": 0.9, "learning_rate": 0.1}, {"examples_per_s": 1.0})
            rounds.append((time.perf_counter() - start) / 50)
    assert min(rounds) < 1e-3


@pytest.mark.parametrize("module", ["log", "metrics", "merge", "report"])
def test_observing_loads_no_numeric_library(module: str) -> None:
    """The logger, the metrics and the report bring in neither torch nor NumPy: every process can afford them."""
    code = (
        f"import sys, corelane.observe.{module}; print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_terminal_may_hear_less_than_the_files(tmp_path: Path) -> None:
    """With `terminal_level`, the files keep every line and the terminal shows trouble only."""
    stream = io.StringIO()
    with SystemLogger(directory=tmp_path, stream=stream, terminal_level="warning") as logger:
        logger.training.info("epoch_finished")
        logger.training.warning("checkpoint_broken")
    assert "epoch_finished" not in stream.getvalue()
    assert "checkpoint_broken" in stream.getvalue()
    assert len((tmp_path / "training.jsonl").read_text().splitlines()) == 2
