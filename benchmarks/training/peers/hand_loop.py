"""Our plan's own step and batches, written out by hand without Corelane: what our abstractions may cost is measured
against it. Batches by index into a reused buffer, fused AdamW that clips on its way, threads and layout of the plan.

The networks are Corelane's, so that nothing but the loop differs, and so are the settings of the process: freed memory
is kept, denormals are flushed.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from benchmarks.training.cases import CASES as ALL
from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, Case, Work
from benchmarks.training.data import examples

CASES = tuple(ALL)


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    import torch

    from corelane.machine.heap import kept_heap

    chosen = json.loads(work.plan.read_bytes())["chosen"]
    torch.set_num_threads(chosen["threads"])
    torch.set_flush_denormal(True)
    with kept_heap():
        return _train(case, work, chosen)


def _train(case: Case, work: Work, chosen: dict[str, Any]) -> list[float]:
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.training.torch_nets import build

    values, labels = examples(case, work.data)
    is_channels_last = chosen["memory_format"] == "channels_last"
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    module = build(case).to(memory_format=memory_format)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    inputs = torch.from_numpy(values[: case.batch_size].copy()).contiguous(memory_format=memory_format)
    targets = torch.empty(case.batch_size, dtype=torch.int64)
    gathered, gathered_labels = inputs.numpy(), targets.numpy()
    num_steps = len(values) // case.batch_size
    random = np.random.default_rng(0)
    rates = []
    for _ in range(work.num_epochs):
        start = time.perf_counter()
        order = random.permutation(len(values))
        for step in range(num_steps):
            rows = order[step * case.batch_size : (step + 1) * case.batch_size]
            np.take(values, rows, axis=0, out=gathered, mode="clip")
            np.take(labels, rows, axis=0, out=gathered_labels, mode="clip")
            cross_entropy(module(inputs), targets).backward()
            # Clipping inside the fused step: it divides the gradients by `grad_scale` on its way.
            norms = torch._foreach_norm([parameter.grad for parameter in parameters])
            norm = torch.linalg.vector_norm(torch.stack(norms))
            optimizer.grad_scale = torch.clamp(norm / CLIP_NORM, min=1.0)
            optimizer.step()
            optimizer.zero_grad()
        rates.append(num_steps * case.batch_size / (time.perf_counter() - start))
    return rates
