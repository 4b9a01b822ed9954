"""The training's own thread: its settings hold in all its workers, and end with it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import pytest
import torch

from corelane.train.torch_thread import run_in_torch_thread

SIZE = 1_000_000  # well above the size from which torch uses more than one thread


def num_denormals() -> int:
    """How many products of a denormal number and 1 are not zero; comparing bits, as comparing numbers may flush too."""
    product = torch.full((SIZE,), 1e-39) * 1.0
    return int((product.view(torch.int32) != 0).sum())


def test_every_worker_flushes_denormals() -> None:
    """With two threads no denormal survives, although the process used both before; afterwards they survive again."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert num_denormals() == SIZE
        assert run_in_torch_thread(lambda _: num_denormals(), num_threads=2, should_stop=lambda: False) == 0
        assert num_denormals() == SIZE
    finally:
        torch.set_num_threads(before)


def test_settings_end_with_the_thread() -> None:
    """Threads and determinism are the run's inside and the caller's outside, also after an error."""

    def work(_: Callable[[], bool]) -> tuple[int, bool]:
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    def fail(_: Callable[[], bool]) -> None:
        raise ValueError("from inside")

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    assert run_in_torch_thread(work, num_threads=3, should_stop=lambda: False) == (3, True)
    with pytest.raises(ValueError, match="from inside"):
        run_in_torch_thread(fail, num_threads=3, should_stop=lambda: False)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_a_request_to_stop_reaches_the_work() -> None:
    """The work sees the caller's wish as soon as it is there."""
    wish = threading.Event()

    def work(should_stop: Callable[[], bool]) -> list[bool]:
        before = should_stop()
        wish.set()
        return [before, should_stop()]

    assert run_in_torch_thread(work, num_threads=1, should_stop=wish.is_set) == [False, True]


def is_in(frame: FrameType | None, function: str) -> bool:
    return frame is not None and (frame.f_code.co_name == function or is_in(frame.f_back, function))


def test_an_interrupt_of_the_caller_waits_for_the_work_to_stop() -> None:
    """A Ctrl-C while the caller waits asks the work to stop; the interrupt goes on up once the work has ended."""
    ended = []

    def work(should_stop: Callable[[], bool]) -> None:
        caller = threading.main_thread().ident or 0
        while not is_in(sys._current_frames()[caller], "result"):
            torch.rand(10)
        signal.pthread_kill(caller, signal.SIGINT)
        while not should_stop():
            torch.rand(10)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_in_torch_thread(work, num_threads=1, should_stop=lambda: False)
    assert ended == [True]
