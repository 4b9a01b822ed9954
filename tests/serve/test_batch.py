"""Batching: the pure decision, the bounded queue, and joining and splitting rows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.core.errors import ConfigError
from corelane.machine.memory import MemoryManager
from corelane.serve.batch import (
    NOTHING_TO_DO,
    BatchBuffers,
    BatchPolicy,
    BatchProcessor,
    RequestQueue,
    Take,
    Wait,
    split,
)
from corelane.serve.request import Request, Waiting


def waiting(num_rows: int = 1, *, arrived_s: float = 0.0, num_bytes: int = 10, deadline_s: float = math.inf) -> Waiting:
    return (arrived_s, Request(np.zeros((num_rows, 2)), num_rows, num_bytes, deadline_s=deadline_s), lambda _: None)


def test_an_idle_executor_takes_what_waits_at_once() -> None:
    """Without a delay nothing ever waits while an executor is idle."""
    assert BatchPolicy(8).decide([waiting()], 1, now=0.0) == Take(1)
    assert BatchPolicy(8).decide([waiting(), waiting(3)], 1, now=0.0) == Take(2)


def test_batches_grow_only_while_executors_are_busy() -> None:
    """Without an idle executor, and without requests, there is nothing to do before something changes."""
    assert BatchPolicy(8).decide([waiting()], 0, now=0.0) == NOTHING_TO_DO
    assert BatchPolicy(8).decide([], 1, now=0.0) == NOTHING_TO_DO
    assert math.inf == NOTHING_TO_DO.until_s


def test_a_request_larger_than_a_batch_runs_alone() -> None:
    """Requests are never split: one with more rows than a batch is taken by itself."""
    assert BatchPolicy(8).decide([waiting(100), waiting()], 1, now=0.0) == Take(1)
    assert BatchPolicy(8).decide([waiting(7), waiting(2)], 1, now=0.0) == Take(1)


def test_a_delay_is_an_upper_bound_from_the_oldest_arrival() -> None:
    """With a delay a batch that is not full waits, until the oldest request has waited that long."""
    policy = BatchPolicy(4, delay_s=0.5)
    assert policy.decide([waiting(arrived_s=1.0)], 1, now=1.1) == Wait(1.5)
    assert policy.decide([waiting(arrived_s=1.0)], 1, now=1.5) == Take(1)
    assert policy.decide([waiting(4, arrived_s=1.0)], 1, now=1.0) == Take(1)


def test_a_delay_makes_no_answer_late() -> None:
    """A batch is run as soon as the earliest deadline in it leaves no more time than its run takes."""
    policy = BatchPolicy(4, delay_s=0.5)
    queue = [waiting(arrived_s=1.0, deadline_s=1.3), waiting(arrived_s=1.0)]
    assert policy.decide(queue, 1, now=1.0, run_s=0.1) == Wait(1.3 - 0.1)
    assert policy.decide(queue, 1, now=1.2, run_s=0.1) == Take(2)
    assert policy.decide(queue, 1, now=1.0, run_s=9.0) == Take(2)


@given(
    sizes=st.lists(st.integers(1, 50), max_size=30),
    batch_size=st.integers(1, 40),
    delay_s=st.sampled_from([0.0, 1.0]),
    now=st.floats(0, 5),
)
def test_a_decision_is_fifo_bounded_and_never_idle(
    sizes: list[int], batch_size: int, delay_s: float, now: float
) -> None:
    """What is taken is the longest head that fits, at least one request; waiting is bounded by the delay."""
    decision = BatchPolicy(batch_size, delay_s).decide([waiting(size) for size in sizes], 1, now)
    if isinstance(decision, Wait):
        assert not sizes or (sum(sizes) < batch_size and now < delay_s == decision.until_s)
        return
    count = decision.num_requests
    assert 1 <= count <= len(sizes)
    assert count == 1 or sum(sizes[:count]) <= batch_size
    assert count == len(sizes) or sum(sizes[: count + 1]) > batch_size or sum(sizes[:count]) == batch_size


def test_the_queue_is_bounded_in_requests_and_in_bytes() -> None:
    """A request beyond either bound is not admitted; taking one makes room again."""
    by_count, by_bytes = RequestQueue(maxsize=2), RequestQueue(max_bytes=100)
    for _ in range(2):
        by_count.put_nowait(waiting())
    by_bytes.put_nowait(waiting(num_bytes=150))
    for queue in (by_count, by_bytes):
        assert queue.full()
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait(waiting())
        queue.take(1)
        assert not queue.full()
        queue.put_nowait(waiting())
    assert by_bytes.num_bytes == 10


def test_the_queue_holds_a_thousand_by_default() -> None:
    """The default bound is the one the specification names."""
    assert RequestQueue().maxsize == 1000


def test_get_batch_takes_what_is_there() -> None:
    """The hand-held form returns at once what waits, oldest first, and leaves what does not fit."""
    queue, items = RequestQueue(), [waiting(3), waiting(3), waiting(3)]
    for item in items:
        queue.put_nowait(item)
    assert asyncio.run(BatchProcessor(batch_size=6).get_batch(queue)) == items[:2]
    assert queue.qsize() == 1


def test_get_batch_waits_for_a_first_request() -> None:
    """An empty queue is waited for; the request that comes within the time-out is returned."""
    item = waiting()

    async def main() -> list[Waiting]:
        queue = RequestQueue()
        asyncio.get_running_loop().call_later(0.02, queue.put_nowait, item)
        return await BatchProcessor().get_batch(queue, timeout=10)

    assert asyncio.run(main()) == [item]


def test_get_batch_gives_up_after_the_timeout() -> None:
    """When nothing comes the batch is empty."""
    assert asyncio.run(BatchProcessor().get_batch(RequestQueue(), timeout=0.01)) == []


def test_a_batch_size_below_one_is_refused() -> None:
    """A processor that could never take a row cannot be made."""
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        BatchProcessor(0)


@pytest.fixture
def buffers() -> Iterator[BatchBuffers]:
    """Buffers of eight rows."""
    made = BatchBuffers(MemoryManager(1), 8)
    yield made
    made.close()


def test_split_undoes_join(buffers: BatchBuffers) -> None:
    """Rows of joined matrices and columns come back to the requests they belong to."""
    sizes = [1, 3, 2]
    matrices = [Request(np.full((size, 2), float(index)), size, 0) for index, size in enumerate(sizes)]
    joined = buffers.join(matrices)
    assert [response.outputs["x"].tolist() for response in split({"x": joined}, matrices)] == [
        request.inputs.tolist()
        for request in matrices  # type: ignore[union-attr]
    ]
    columns = [Request({"a": np.arange(size), "b": [None] * size}, size, 0) for size in sizes]
    both = buffers.join(columns)
    assert both["b"] == [None] * 6  # type: ignore[index]
    assert len(both["a"]) == 6  # type: ignore[index]


def test_columns_of_different_types_do_not_join(buffers: BatchBuffers) -> None:
    """An image sent as pixels and one sent as a file are not mixed into one array."""
    parts = [Request({"image": np.zeros((1, 2, 2, 1))}, 1, 0), Request({"image": [b"file"]}, 1, 0)]
    with pytest.raises(ValueError, match="arrays or as lists"):
        buffers.join(parts)


def test_batches_are_joined_in_one_leased_array() -> None:
    """Matrices of one type use the same memory run after run; closing gives it back."""
    memory = MemoryManager(1, limit_bytes=1 << 20)
    buffers = BatchBuffers(memory, 8)
    requests = [Request(np.full((2, 3), float(index)), 2, 0) for index in range(3)]
    first = buffers.join(requests)
    second = buffers.join(requests[1:])
    assert np.shares_memory(first, second)  # type: ignore[arg-type]
    assert second.tolist() == [[1.0] * 3] * 2 + [[2.0] * 3] * 2  # type: ignore[union-attr]
    assert memory.allocated_memory >= 8 * 3 * 8
    buffers.close()
    assert memory.allocated_memory == 0


@pytest.mark.parametrize(
    "matrices",
    [
        [np.zeros((1, 2)), np.ones((1, 2), dtype=np.float32)],
        [np.zeros((6, 2)), np.ones((6, 2))],
        [np.zeros((1, 2, 2)), np.ones((1, 2, 2))],
    ],
)
def test_what_does_not_fit_the_buffer_is_joined_all_the_same(buffers: BatchBuffers, matrices: list[np.ndarray]) -> None:
    """Mixed types, more rows than a batch has, and more dimensions give what plain concatenation gives."""
    joined = buffers.join([Request(matrix, len(matrix), 0) for matrix in matrices])
    assert np.array_equal(joined, np.concatenate(matrices))  # type: ignore[arg-type]


def due(deadline_s: float, number: int = 0) -> Waiting:
    """A request that must be answered by then; `number` tells it from others."""
    return (float(number), Request(np.zeros((1, 2)), 1, 10, deadline_s), lambda _: None)


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 30))
def test_the_earliest_deadline_is_first_and_equals_keep_their_order(deadlines: list[int], num_taken: int) -> None:
    """Whatever the order of arrival; rows and bytes are counted through it."""
    queue = RequestQueue(100, 10_000)
    items = [due(float(deadline), number) for number, deadline in enumerate(deadlines)]
    for item in items:
        queue.put(item)
    in_order = sorted(items, key=lambda item: (item[1].deadline_s, item[0]))
    for deadline in range(-1, 7):
        assert queue.rows_before(deadline) == sum(one <= deadline for one in deadlines)
    assert list(queue.waiting) == in_order
    taken = queue.take(min(num_taken, len(items)))
    assert taken == in_order[: len(taken)]
    assert list(queue.waiting) == in_order[len(taken) :]
    assert (queue.num_rows, queue.num_bytes) == (len(queue.waiting), 10 * len(queue.waiting))


def test_the_next_part_of_a_request_goes_behind_what_waits() -> None:
    """Though its deadline is the earliest; who comes later goes behind it if his deadline is later."""
    queue = RequestQueue()
    first, second, part, last = due(1.0, 1), due(2.0, 2), due(0.5, 3), due(3.0, 4)
    for item in (first, second):
        queue.put(item)
    queue.put_last(part)
    queue.put(last)
    assert list(queue.waiting) == [first, second, part, last]
    queue.put(urgent := due(0.1, 5))
    assert queue.take(1) == [urgent]
