"""A control group that runs full, for real: the budget is the group's, and its filling up shrinks what is held."""

from __future__ import annotations

import json
import sys
import textwrap

import pytest

from tests.faults.memory_group import memory_group

MIB = 1 << 20

pytestmark = pytest.mark.needs("memory-group")


def _in_group(limit_bytes: int, code: str) -> dict[str, object]:
    """What the Python program `code` prints as JSON when it runs in a group of `limit_bytes`."""
    with memory_group(limit_bytes) as group:
        done = group.run([sys.executable, "-c", textwrap.dedent(code)], timeout_s=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_budget_is_the_groups_limit_and_not_the_machines() -> None:
    """Four pools divide what the group allows, whatever memory the machine has."""
    told = _in_group(
        256 * MIB,
        """
        import json
        from corelane.machine.memory import MemoryManager
        manager = MemoryManager(64)
        pools = {name: pool.usage.limit_bytes for name, pool in manager.memory_pools.items()}
        print(json.dumps({"budget": manager.max_memory, **pools}))
        """,
    )
    assert told == {
        "budget": 256 * MIB,
        "model": int(256 * MIB * 0.4),
        "data": int(256 * MIB * 0.3),
        "gradients": int(256 * MIB * 0.2),
        "system": int(256 * MIB * 0.1),
    }


def test_a_group_that_fills_up_is_relieved_before_the_kernel_kills() -> None:
    """Above nine tenths of the limit the holders are asked and idle buffers go; the group is emptier afterwards, and
    the data pool's limit is lower until the pressure has passed.
    """
    told = _in_group(
        256 * MIB,
        """
        import json
        import numpy as np
        from corelane.machine.memory import MemoryManager
        from corelane.machine.pressure import PressureWatch, read_pressure

        manager = MemoryManager(64)
        pool = manager.pool("data")
        full = pool.usage.limit_bytes
        held = [manager.allocate_tensor((1 << 20,), np.uint8) for _ in range(70)]

        def give_back(num_bytes):
            freed = 0
            while held and freed < num_bytes:
                freed += held[-1].nbytes
                manager.release(held.pop())
            pool.drop_idle()
            return freed

        for array in held:
            array[:] = 1
        manager.register_holder(give_back)
        other = []
        while not read_pressure().is_high:
            other.append(np.ones(1 << 20, dtype=np.uint8))
        before, told = read_pressure().filled, []
        with PressureWatch(manager, interval_s=3600.0, tell=lambda pressure, freed: told.append(freed)) as watch:
            watch.look()
            after, shrunk = read_pressure().filled, pool.usage.limit_bytes
            other.clear()
            for _ in range(10):
                watch.look()
        print(json.dumps({
            "before": before, "after": after, "freed": told[0], "held": len(held),
            "shrunk": shrunk / full, "calm": pool.usage.limit_bytes / full,
        }))
        """,
    )
    assert told["before"] >= 0.9
    assert told["after"] < told["before"]
    assert told["freed"] >= 17 * MIB
    assert told["held"] < 70
    assert told["shrunk"] == pytest.approx(0.75, abs=0.01)
    assert told["calm"] == 1.0
