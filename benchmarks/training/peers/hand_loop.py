"""Our plan's own step and batches, written out by hand without Corelane: what our abstractions may cost is measured
against it. Batches by index into a reused buffer, fused AdamW that clips on its way, channels_last for convolutions.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_THREADS, Case, standardised

CASES = ("mlp-b64", "cnn-b64")


def run(case: Case, data: Path, num_epochs: int) -> list[float]:
    """Train `num_epochs`; examples per second of each."""
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.training.torch_nets import build

    torch.set_num_threads(NUM_THREADS)
    torch.set_flush_denormal(True)
    images, labels = standardised(data)
    memory_format = torch.channels_last if case.channels else torch.contiguous_format
    module = build(case).to(memory_format=memory_format)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    inputs = torch.empty(case.batch_size, *images.shape[1:]).contiguous(memory_format=memory_format)
    targets = torch.empty(case.batch_size, dtype=torch.int64)
    gathered, gathered_labels = inputs.numpy(), targets.numpy()
    num_steps = len(images) // case.batch_size
    random = np.random.default_rng(0)
    rates = []
    for _ in range(num_epochs):
        start = time.perf_counter()
        order = random.permutation(len(images))
        for step in range(num_steps):
            chosen = order[step * case.batch_size : (step + 1) * case.batch_size]
            np.take(images, chosen, axis=0, out=gathered, mode="clip")
            np.take(labels, chosen, axis=0, out=gathered_labels, mode="clip")
            cross_entropy(module(inputs), targets).backward()
            # Clipping inside the fused step: it divides the gradients by `grad_scale` on its way.
            norms = torch._foreach_norm([parameter.grad for parameter in parameters])
            norm = torch.linalg.vector_norm(torch.stack(norms))
            optimizer.grad_scale = torch.clamp(norm / CLIP_NORM, min=1.0)
            optimizer.step()
            optimizer.zero_grad()
        rates.append(num_steps * case.batch_size / (time.perf_counter() - start))
    return rates
