"""A trainer process for `test_kill_resume.py`: starts the run in the given directory or resumes it. Not a test.

Arguments: the directory, epochs, threads, and, where it is to be killed, in which phase, from which step on, after what
delay (`Kill`). It logs to its standard output, and writes down which rows its network was trained on (`Ledger`). With
`serve` it forks such processes, and takes their arguments from its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch._dynamo  # the first optimiser loads it, which would take a second in each fork
from torch import Tensor, nn

from corelane.core.types import Array
from corelane.observe.log import SystemLogger
from corelane.train.heartbeat import NoHeart, Phase
from corelane.train.record import StepRecord
from tests.train.examples import classification, run

LEDGER = "ledger"


@dataclass
class Kill(NoHeart):
    """SIGKILL for this process: at the end of a step (`train`), or `delay_s` into a save, the first from `step` on.

    In the phase `start` it comes `delay_s` from now, in any other never.
    """

    phase: str
    step: int
    delay_s: float = 0.0
    _is_due: bool = field(default=False, init=False)

    def look(self, record: StepRecord) -> None:
        """The observer: every step comes by."""
        self._is_due = record.step >= self.step
        if self._is_due and self.phase == "train":
            os.kill(os.getpid(), signal.SIGKILL)

    def enter(self, phase: Phase) -> None:
        """The save goes on in its own thread while the delay passes."""
        if self._is_due and phase == self.phase == "save":
            self.soon()

    def soon(self) -> None:
        """After the delay, whatever this process does then."""
        timer = threading.Timer(self.delay_s, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()


class Ledger:
    """One line for each step that this process took: the step, its epoch, and the rows that the network saw in it.

    Rows are told by their values, as they arrive in the network. What is handed to the system outlives a SIGKILL.
    """

    def __init__(self, directory: Path, net: nn.Module, rows: Array) -> None:
        (directory / LEDGER).mkdir(parents=True, exist_ok=True)
        self._numbers = {row.tobytes(): number for number, row in enumerate(rows)}
        self._file = (directory / LEDGER / f"{time.time_ns()}.jsonl").open("ab", buffering=0)
        self._seen: list[int] = []
        net.register_forward_pre_hook(self._see)

    def _see(self, net: nn.Module, inputs: tuple[Tensor]) -> None:
        if net.training:
            self._seen += [self._numbers[row.tobytes()] for row in inputs[0].numpy()]

    def look(self, record: StepRecord) -> None:
        """The observer: the rows seen since the step before are those of this one."""
        self._file.write(json.dumps([record.step, record.epoch, self._seen]).encode() + b"\n")
        self._seen = []


def train(directory: Path, epochs: int, num_threads: int, kill: Kill) -> None:
    """About 1 ms a step and a save every five: a save is never far away."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(8, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 3)),
    )
    data, logger = classification(1000), SystemLogger(stream=sys.stdout)
    ledger = Ledger(directory, net, next(iter(data.train.inputs.values())))
    run(
        directory,
        data,
        net,
        resume=True,
        logger=logger,
        epochs=epochs,
        num_threads=num_threads,
        log_interval=2,
        ema_decay=0.9,
        observers=[ledger.look, kill.look],
        heart=kill,
    )


def main(
    directory: str, epochs: str, num_threads: str, phase: str = "never", step: str = "0", delay_s: str = "0"
) -> None:
    """Train, and die where the arguments say so."""
    kill = Kill(phase, int(step), float(delay_s))
    if phase == "start":
        kill.soon()
    train(Path(directory), int(epochs), int(num_threads), kill)


def serve() -> None:
    """For each line of arguments fork a trainer, and answer with its return code. Torch is loaded once for all of them.

    No thread has been started yet that a fork could lose.
    """
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            main(*line.split())
            return
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main(*sys.argv[1:])
