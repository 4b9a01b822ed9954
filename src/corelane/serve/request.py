"""What every protocol translates to and from: raw values in, named arrays out. No HTTP, JSON or gRPC is known here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from corelane.core.types import Array, NamedArrays

Inputs: TypeAlias = Array | Mapping[str, Any]
"""A matrix [n, d] where the model takes one, else raw columns by name, each an array or a list of n values."""


@dataclass(slots=True)
class Envelope:
    """What is known of a request beside its body: when it came, when it must be answered, and when at the latest if its
    body says something else (monotonic seconds); how many bytes of the body are JSON, as a header says (None: all).
    """

    arrived_s: float = 0.0
    deadline_s: float = math.inf
    json_length: str | None = None
    wants_receipt: bool = False
    latest_s: float = math.inf

    def within(self, timeout_s: float) -> float:
        """The deadline of a request that must be answered `timeout_s` after it came."""
        return min(self.latest_s, self.arrived_s + timeout_s)


BARE = Envelope()


@dataclass(slots=True, eq=False)
class Request:
    """Rows to predict. `num_bytes` is what they cost while waiting; `deadline_s` is on the monotonic clock."""

    inputs: Inputs
    num_rows: int
    num_bytes: int
    deadline_s: float = math.inf
    id: str | None = None
    outputs: tuple[str, ...] | None = None  # those asked for, None for all
    in_bytes: frozenset[str] = frozenset()  # the outputs that are wanted as bytes
    wants_receipt: bool = False
    part: Request | None = None  # the one that is in the queue for it, of a request that is run in parts

    def give_up(self) -> None:
        """Its caller has left, or was told that it is too late: it is not run any more."""
        self.deadline_s = -math.inf
        if self.part is not None:
            self.part.give_up()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an answer's time went: seconds in the queue and in the run, the rows of that run, and how it was run."""

    queue_s: float
    compute_s: float
    batch_rows: int
    plan: str

    def parameters(self) -> dict[str, int | str]:
        """As parameters of the protocol, times in microseconds."""
        return {
            "queue_us": round(self.queue_s * 1e6),
            "compute_us": round(self.compute_s * 1e6),
            "batch_rows": self.batch_rows,
            "plan": self.plan,
        }

    def server_timing(self, serialize_s: float) -> str:
        """As the header Server-Timing has it (W3C), times in milliseconds; `serialize_s` made the reply's bytes."""
        times = {"queue": self.queue_s, "compute": self.compute_s, "serialize": serialize_s}
        timed = ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in times.items())
        return f'{timed}, batch;desc="{self.batch_rows} rows, {self.plan}"'


@dataclass(slots=True, eq=False)
class Response:
    """The answer to `request`: arrays by output name, each with the request's rows; its receipt if that is wanted."""

    request: Request
    outputs: NamedArrays
    receipt: Receipt | None = None


Deliver: TypeAlias = Callable[[Response | BaseException], None]
"""Takes the answer, or the error there is instead of one. Called once, on the event loop's thread. Raises nothing."""

Waiting: TypeAlias = tuple[float, Request, Deliver]
"""A request in the queue: when it came (monotonic seconds), the request, and where its answer goes."""
