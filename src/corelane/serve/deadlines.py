"""What deadlines decide when a batch is taken: how large it may be, and who is not run any more.

Both look at the queue's order, the earliest deadline first, and at how long runs take; neither keeps anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from corelane.core.errors import DeadlineError
from corelane.serve.request import Waiting
from corelane.serve.tail import TailModel


def in_time(waiting: Sequence[Waiting], num_requests: int, batch_size: int, tail: TailModel, now_s: float) -> int:
    """How many of the first `num_requests` may be run together so that the first of them, whose deadline is the
    earliest, is still met: one at least. Where it is met anyway, or is not to be met, all of them.
    """
    left_s = waiting[0][1].deadline_s - now_s
    if tail.high_s(batch_size) <= left_s or left_s <= tail.high_s(1):
        return num_requests
    num_rows = 0
    for count in range(num_requests):
        num_rows += waiting[count][1].num_rows
        if tail.high_s(num_rows) > left_s:
            return max(count, 1)
    return num_requests


def without_late(batch: list[Waiting], tail: TailModel, now_s: float, *, is_last: bool) -> list[Waiting]:
    """`batch` without the requests whose deadline has passed, or will have when they are answered; those are told so
    and cost no run. Where nothing else waits (`is_last`) the last of them is tried: runs may be faster than they were.
    """
    shortest_s = tail.high_s(1)
    soonest_s = now_s + shortest_s
    for _, request, _ in batch:
        if request.deadline_s <= soonest_s:
            break
    else:
        return batch
    kept: list[Waiting] = []
    for waiting in batch:
        left_s = waiting[1].deadline_s - now_s
        if left_s > shortest_s or (left_s > 0 and is_last and not kept and waiting is batch[-1]):
            kept.append(waiting)
        else:
            waiting[2](DeadlineError("the deadline passed while the request waited; send it again later"))
    return kept
