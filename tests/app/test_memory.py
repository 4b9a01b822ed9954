"""The trainer's memory is accounted for, and given back."""

from __future__ import annotations

import pytest
from torch import nn

from corelane.app.memory import managed_memory, reserved_for
from corelane.core.errors import MemoryBudgetError
from corelane.machine.cpu import Budget
from corelane.observe.log import SystemLogger


def test_weights_gradients_and_moments_are_reserved_while_training_lasts() -> None:
    """A frozen layer takes room in the model pool only; afterwards nothing is reserved; the pools are gauges."""
    module = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 5, bias=False))
    module[0].requires_grad_(False)
    with SystemLogger(terminal_level="error") as logger, managed_memory(Budget(1, 1 << 20), logger) as memory:
        with reserved_for(module, memory):
            assert memory.describe()["model"].used_bytes == (100 + 50) * 4
            assert memory.describe()["gradients"].used_bytes == 3 * 50 * 4
            assert b'pool="gradients",state="used"} 600.0' in logger.metrics_collector.render()
        assert memory.allocated_memory == 0


def test_a_network_beyond_the_memory_is_refused_before_the_first_step() -> None:
    """The error names the pool and what is free, and what was reserved before it is given back."""
    with (
        SystemLogger(terminal_level="error") as logger,
        managed_memory(Budget(1, 10_000), logger) as memory,
    ):
        with (
            pytest.raises(MemoryBudgetError, match="'gradients' must have room for 3000 bytes, got 2000"),
            reserved_for(nn.Linear(250, 1, bias=False), memory),
        ):
            pytest.fail("reserved")
        assert memory.allocated_memory == 0
