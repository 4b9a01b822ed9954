"""torch's thread count for a while, in the calling thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """Run the block with `num_threads` torch threads, then put the count back.

    With one, no OpenMP pool is made for the calling thread. That matters before a training, which has a thread and a
    pool of its own: where two pools have more threads than there are cores, libgomp stops spinning at its barriers, and
    an MLP at batch 64 was measured to train at half its speed.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
