"""`SystemLogger`: four structlog streams (training, inference, system, data), each an event name plus fields.

Every stream goes to the terminal and, given a directory, to `<directory>/<stream>.jsonl`. Constructed by `app`, used
by every room above `observe`. A full disk costs log lines, which are counted and reported, and never the work that
was logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from corelane.core.clock import Clock, SystemClock
from corelane.observe.config import LogLevel, ObserveConfig
from corelane.observe.instruments import AREAS
from corelane.observe.lines import human_line, json_line
from corelane.observe.metrics import MetricsCollector
from corelane.observe.sinks import FileSink, TerminalSink

TRAINING_STEP = "training_step"
_LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
_SYSTEM_CLOCK = SystemClock()


class SystemLogger:
    """Owns the four log streams of a process and nothing else.

    `loggers` holds them by name; `training`, `inference`, `system` and `data` are the same. Each is a structlog logger:
    `logger.data.info("rows_rejected", num_rows=3)`, `.bind(...)`, `.exception(...)` inside a handler. Without a
    `directory` nothing is written to disk. `stream` replaces standard error. `terminal_level` is the lowest level
    shown there, where a progress display tells the rest; files get every level that `config` lets through.
    `read_memory_bytes` gives the `memory_usage` of a training step.

    Raises `ConfigError` when the directory cannot be written, unless for a full disk.
    """

    def __init__(
        self,
        config: ObserveConfig | None = None,
        *,
        directory: Path | None = None,
        metrics: MetricsCollector | None = None,
        clock: Clock = _SYSTEM_CLOCK,
        read_memory_bytes: Callable[[], int] | None = None,
        stream: TextIO | None = None,
        terminal_level: LogLevel | None = None,
    ) -> None:
        config = config or ObserveConfig()
        self.metrics_collector = metrics or MetricsCollector()
        self._clock = clock
        self._read_memory_bytes = read_memory_bytes
        self._lock = threading.RLock()  # reentrant: a signal handler may log while the main thread is in here
        self._num_dropped = 0
        terminal = TerminalSink(stream, lambda _: self._count_dropped("system"))
        is_human = config.log_format == "human" or (config.log_format == "auto" and terminal.is_terminal)
        shown = _LEVELS[_LEVELS.index(terminal_level or "debug") :]
        self._streams = {
            name: _Stream(name, directory, terminal, self._count_dropped, clock, is_human=is_human, shown=shown)
            for name in AREAS
        }
        self.loggers: dict[str, FilteringBoundLogger] = {
            name: _wrap(stream, config.log_level, clock) for name, stream in self._streams.items()
        }

    @property
    def training(self) -> FilteringBoundLogger:
        """Steps, evaluations, checkpoints."""
        return self.loggers["training"]

    @property
    def inference(self) -> FilteringBoundLogger:
        """Requests, batches, models loaded."""
        return self.loggers["inference"]

    @property
    def system(self) -> FilteringBoundLogger:
        """Processes, the machine, configuration."""
        return self.loggers["system"]

    @property
    def data(self) -> FilteringBoundLogger:
        """Sources, rejected rows, preparation."""
        return self.loggers["data"]

    @property
    def num_dropped(self) -> int:
        """Lines that could not be written so far, to files or to the terminal, over all streams."""
        return self._num_dropped

    def log_training_step(
        self, step: int, loss: float, metrics: Mapping[str, float], timing: Mapping[str, float]
    ) -> None:
        """Log one training step and record it in the metrics; about 50 us, for each log interval and not for each step.

        `metrics` may hold `learning_rate`, `gradient_norm`, `epoch`, `num_examples` (since the last call) and
        qualities such as `accuracy`; `timing` `examples_per_s` and durations in seconds. Instruments take what
        `instruments.py` lists, the log takes everything. On a terminal for people the line is left out: the progress
        display shows the steps there.

        Raises `ConfigError` when a value that an instrument takes is not a number.
        """
        entry = {
            "timestamp": self._clock.now(),
            "step": step,
            "loss": loss,
            "metrics": dict(metrics),
            "timing": dict(timing),
            "memory_usage": self._read_memory_bytes() if self._read_memory_bytes else None,
        }
        self.training.info(TRAINING_STEP, **entry)
        self.metrics_collector.record("training", entry)

    def close(self) -> None:
        """Close the files; later lines go to the terminal only. May be called twice."""
        for stream in self._streams.values():
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _count_dropped(self, stream: str) -> None:
        with self._lock:
            self._num_dropped += 1
        self.metrics_collector.counter("corelane_system_dropped_log_lines_total", stream).inc()


class _Stream:
    """What structlog calls at the end of one stream: writes a finished entry to the file and to the terminal."""

    def __init__(
        self,
        name: str,
        directory: Path | None,
        terminal: TerminalSink,
        count_dropped: Callable[[str], None],
        clock: Clock,
        *,
        is_human: bool,
        shown: Sequence[str],
    ) -> None:
        self.name = name
        self._count_dropped = count_dropped
        self._clock = clock
        self._is_human = is_human
        self._shown = frozenset(shown)
        self._terminal = terminal
        self._is_failing = False  # the last line was lost
        self._has_lost_line = False  # this line was lost
        paths = [directory / f"{name}.jsonl"] if directory else []
        self._files = [FileSink(path, self._announce, self._lost) for path in paths]

    def write(self, entry: EventDict) -> None:
        line = json_line(entry)
        self._has_lost_line = False
        for file in self._files:
            file.write(line)
        self._is_failing = self._has_lost_line
        if entry["level"] not in self._shown:
            return
        if not self._is_human:
            self._terminal.write(line)
        elif entry["event"] != TRAINING_STEP:
            self._terminal.write(human_line(entry))

    debug = info = warning = error = critical = write

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _announce(self, num_lost: int) -> str:
        return json_line(self._note(num_lost=num_lost))

    def _lost(self, error: OSError) -> None:
        self._has_lost_line = True
        self._count_dropped(self.name)
        if not self._is_failing:  # once for each time the disk fails, not for each line
            note = self._note(reason=error.strerror or str(error))
            self._terminal.write(human_line(note) if self._is_human else json_line(note))

    def _note(self, **fields: Any) -> EventDict:
        return {
            "timestamp": self._clock.now(),
            "level": "warning",
            "stream": self.name,
            "event": "log_lines_dropped",
            **fields,
        }


def _wrap(stream: _Stream, level: str, clock: Clock) -> FilteringBoundLogger:
    def stamp(_: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        head = {
            "timestamp": fields.pop("timestamp", None) or clock.now(),
            "level": method,
            "stream": stream.name,
            "event": fields.pop("event"),
        }
        return {**head, **fields, **head}

    def hand_over(_: WrappedLogger, __: str, entry: EventDict) -> tuple[tuple[EventDict], dict[str, Any]]:
        return (entry,), {}

    logger: FilteringBoundLogger = structlog.wrap_logger(
        stream,
        processors=[structlog.processors.format_exc_info, stamp, hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return logger
