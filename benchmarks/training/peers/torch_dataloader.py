"""What people write first: `DataLoader(TensorDataset)`, plain AdamW, and a loop."""

from __future__ import annotations

import time

from benchmarks.training.cases import CASES as ALL
from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_THREADS, Case, Work
from benchmarks.training.data import examples

CASES = tuple(ALL)


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.training.torch_nets import build

    torch.set_num_threads(NUM_THREADS)
    tensors = (torch.from_numpy(array) for array in examples(case, work.data))
    loader = DataLoader(TensorDataset(*tensors), case.batch_size, shuffle=True, drop_last=True)
    module = build(case)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE)
    loss_of = nn.CrossEntropyLoss()
    rates = []
    for _ in range(work.num_epochs):
        start = time.perf_counter()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss_of(module(inputs), targets).backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
            optimizer.step()
        rates.append(len(loader) * case.batch_size / (time.perf_counter() - start))
    return rates
