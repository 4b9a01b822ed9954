"""`DataLoader(TensorDataset)`, shuffled, with the worker count that is fastest here; tensors in memory, or mapped files
where they do not fit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.cases import BATCH_SIZE, NUM_THREADS, Case
from benchmarks.data.pages import drop_from_cache

_WORKERS = (0, 1, 2, 4)
_LONGEST_S = 6.0  # of one worker count: a share of an epoch says as much as all of it


def run(case: Case, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Rows per second, or megabytes per second of mapped files, with the best of 0, 1, 2 and 4 workers."""
    import torch

    torch.set_num_threads(NUM_THREADS)
    folder = Path(inputs["arrays"])
    if case.limit_bytes is None:
        dataset = _dataset(folder, mmap_mode=None)
        return {"value": max(_rows_per_s(dataset, num_workers) for num_workers in _WORKERS)}
    rates = []
    for num_workers in _WORKERS:
        drop_from_cache(folder.iterdir())
        rates.append(_rows_per_s(_dataset(folder, mmap_mode="c"), num_workers))
    return {"value": max(rates) * (4 * case.width + 8) / 1e6}


def _dataset(folder: Path, mmap_mode: Any) -> Any:
    import torch
    from torch.utils.data import TensorDataset

    inputs, target = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode)) for name in ("0", "target"))
    return TensorDataset(inputs, target)


def _rows_per_s(dataset: Any, num_workers: int) -> float:
    """From the second batch on: starting the workers does not count."""
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True, num_workers=num_workers)
    batches = iter(loader)
    next(batches)
    start, num_rows = time.perf_counter(), 0
    for _, target in batches:
        num_rows += len(target)
        if time.perf_counter() - start > _LONGEST_S:
            break
    return num_rows / (time.perf_counter() - start)
