"""The process's memory: one manager for everything that trains, watched for pressure, seen in the metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from corelane.machine.cpu import Budget
from corelane.machine.memory import MemoryManager
from corelane.machine.pool_metrics import watch_pools
from corelane.machine.pressure import Pressure, PressureWatch
from corelane.observe.log import SystemLogger

STATES_PER_WEIGHT = 3  # the gradient, and the two moments of AdamW


@contextmanager
def managed_memory(budget: Budget, logger: SystemLogger) -> Iterator[MemoryManager]:
    """A manager of the budget's memory that gives back when the machine is short of it; its pools are gauges."""
    manager = MemoryManager(math.inf, limit_bytes=budget.memory_bytes)
    watch_pools(logger.metrics_collector, manager)

    def tell(pressure: Pressure, freed_bytes: int) -> None:
        logger.system.warning(
            "memory_pressure", stalled=pressure.stalled, filled=pressure.filled, freed_bytes=freed_bytes
        )

    with PressureWatch(manager, tell=tell):
        yield manager


def room_for_batches(memory: MemoryManager) -> int:
    """Bytes that a batch may take in the network: what weights and optimiser leave of the pools they are in."""
    return sum(memory.pool(name).free_bytes for name in ("model", "gradients"))


@contextmanager
def reserved_for(module: nn.Module, memory: MemoryManager) -> Iterator[None]:
    """Account for what training `module` keeps in memory: weights and buffers, gradients and the optimiser's state.

    Raises `MemoryBudgetError` when a pool has no room for them.
    """
    weights = sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])
    trained = sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
    with ExitStack() as reservations:
        reservations.enter_context(memory.reserve(weights, "model"))
        reservations.enter_context(memory.reserve(STATES_PER_WEIGHT * trained, "gradients"))
        yield
