"""A thread of its own for the training, so that its floating-point mode and thread count end with it.

Flushing of denormals is a register of each CPU thread, inherited by the threads that a thread starts. In a process
that has used torch before, the pool of the main thread exists and keeps its mode (measured: with two threads, half of
a tensor was not flushed). A new thread makes a new pool, and every worker of it flushes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch

from corelane.machine.heap import kept_heap

ResultT = TypeVar("ResultT")

Work = Callable[[Callable[[], bool]], ResultT]
"""What runs in the thread; it is handed the function that says whether to stop."""


def run_in_torch_thread(work: Work[ResultT], *, num_threads: int, should_stop: Callable[[], bool]) -> ResultT:
    """Run `work` in a new thread with `num_threads` torch threads, denormals flushed and deterministic kernels.

    Memory that a step frees stays with the process until the work is over (`machine/heap.py`).

    A KeyboardInterrupt that reaches the waiting caller asks the work to stop, waits for it, and goes on up.
    """
    interrupted = threading.Event()
    num_threads_before = torch.get_num_threads()
    try:
        with kept_heap(), _deterministic(), ThreadPoolExecutor(1, "corelane-train", _set_up, (num_threads,)) as pool:
            try:
                return pool.submit(work, lambda: interrupted.is_set() or should_stop()).result()
            except BaseException:
                interrupted.set()  # before the pool waits for its thread
                raise
    finally:
        torch.set_num_threads(num_threads_before)


def _set_up(num_threads: int) -> None:
    torch.set_flush_denormal(True)
    torch.set_num_threads(num_threads)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic kernels where torch has them, for this process; new memory is not filled, which would cost time."""
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    settings = cast(Any, torch.utils.deterministic)  # its one attribute is made at run time, where mypy does not look
    fills = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        settings.fill_uninitialized_memory = fills
