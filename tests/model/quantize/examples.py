"""A small trained network with its graph and rows, for the tests of this folder and of the quantiser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from corelane.core.types import FloatArray, IntArray
from corelane.data.pipeline import TensorSpec
from corelane.model.config import ModelConfig
from corelane.model.export import export_graph
from corelane.model.nets.build import build

INPUTS = {"image": TensorSpec("float32", (1, 12, 12))}
NUM_LABELS = 4


@dataclass(frozen=True, eq=False)
class Trained:
    """A float32 graph, batches of calibration inputs, and held-out rows with their labels."""

    graph: bytes
    calibration: list[dict[str, FloatArray]]
    held_out: list[dict[str, FloatArray]]
    labels: IntArray


@cache
def trained() -> Trained:
    """A convolutional network that tells four blurred patterns apart nearly always."""
    random = np.random.default_rng(0)
    patterns = random.normal(size=(NUM_LABELS, 1, 12, 12)).astype(np.float32)
    labels = random.integers(0, NUM_LABELS, 1024)
    x = (patterns[labels] + random.normal(size=(1024, 1, 12, 12))).astype(np.float32)
    net = build(ModelConfig(net="cnn", channels=[8, 16], hidden=[256, 256]), INPUTS, NUM_LABELS, seed=0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(60):
        rows = slice(64 * (step % 8), 64 * (step % 8 + 1))
        loss = torch.nn.functional.cross_entropy(net(torch.from_numpy(x[rows])), torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batches = [{"image": x[start : start + 64]} for start in range(0, 1024, 64)]
    return Trained(export_graph(net, INPUTS), batches[:4], batches[8:], labels[512:])


def accuracy(logits: FloatArray) -> float:
    """Of held-out rows."""
    return float(np.mean(logits.argmax(axis=1) == trained().labels))
