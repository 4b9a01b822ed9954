"""A trainer process for `test_crash_loop.py` and `test_hangs.py`, whose net meets a fault. Not a test.

Arguments: the run's directory, what happens, and how crash loops are taken; `--resume` is added by its supervisor.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from corelane.app.runs import recorded_errors
from corelane.core.errors import CorelaneError
from corelane.train.heartbeat import heart_of
from corelane.train.stacks import stacks_on_request
from tests.train.examples import classification, dropout_net, run

POISON_ROW = 100


def poison_value() -> float:
    """What tells the poisonous row of the training part from all others."""
    return float(next(iter(classification().train.inputs.values()))[POISON_ROW].flat[0])


class Faulty(nn.Module):
    """A net that crashes, or hangs, whenever it is trained on one certain row."""

    def __init__(self, fault: str, directory: Path) -> None:
        super().__init__()
        self.inner = dropout_net()
        self.fault = fault
        self.once = directory / "has-happened"
        self.poison = poison_value()

    def forward(self, values: Tensor) -> Tensor:
        if self.training and bool((values[:, 0] == self.poison).any()):
            if self.fault == "crash":
                ctypes.string_at(0)  # in this thread: a signal to the process would leave it time for more steps
            if self.fault == "deadlock" and not self.once.exists():
                self.once.touch()
                deadlock_after_fork()
        return self.inner(values)


def deadlock_after_fork() -> None:
    """A thread holds a lock while the process forks: in the copy nobody will let it go, and we wait for the copy."""
    lock, is_held = threading.Lock(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            time.sleep(1.0)

    threading.Thread(target=hold, daemon=True).start()
    is_held.wait()
    pid = os.fork()
    if pid == 0:
        with lock:
            os._exit(0)
    os.waitpid(pid, 0)


def main(directory: Path, fault: str, policy: str) -> int:
    with recorded_errors(directory), stacks_on_request(directory / "logs"), heart_of(directory) as heart:
        net = Faulty(fault, directory)
        run(directory, classification(), net, resume="--resume" in sys.argv, heart=heart, on_crash_loop=policy)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
    except CorelaneError:
        sys.exit(70)
