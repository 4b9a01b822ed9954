"""A trainer process for `test_kill_resume.py`: starts the run in the given directory or resumes it. Not a test.

It logs to its standard output.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from corelane.observe.log import SystemLogger
from tests.train.examples import classification, run


def train(directory: Path, epochs: int, num_threads: int) -> None:
    """About 1 ms a step and a save every five: a save is never far away."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(8, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 3)),
    )
    data, logger = classification(1000), SystemLogger(stream=sys.stdout)
    run(directory, data, net, resume=True, logger=logger, epochs=epochs, num_threads=num_threads, log_interval=2)


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
