"""What people write first: `DataLoader(TensorDataset)`, plain AdamW, and a loop."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_THREADS, Case, standardised

CASES = ("mlp-b64", "cnn-b64")


def run(case: Case, data: Path, num_epochs: int) -> list[float]:
    """Train `num_epochs`; examples per second of each."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.training.torch_nets import build

    torch.set_num_threads(NUM_THREADS)
    images, labels = standardised(data)
    loader = DataLoader(
        TensorDataset(torch.from_numpy(images), torch.from_numpy(labels)), case.batch_size, shuffle=True, drop_last=True
    )
    module = build(case)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE)
    loss_of = nn.CrossEntropyLoss()
    rates = []
    for _ in range(num_epochs):
        start = time.perf_counter()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss_of(module(inputs), targets).backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
            optimizer.step()
        rates.append(len(loader) * case.batch_size / (time.perf_counter() - start))
    return rates
