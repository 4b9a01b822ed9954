"""The allocator while data are prepared: a setting that is put back."""

from __future__ import annotations

import pyarrow as pa
import pytest

from corelane.data.arrow_memory import system_allocator


def test_the_allocator_is_put_back() -> None:
    """Arrays made inside come from the system and outlive the context; afterwards the pool is the one before."""
    before = pa.default_memory_pool().backend_name
    with system_allocator():
        assert pa.default_memory_pool().backend_name == "system"
        made = pa.array(range(1000))
    assert pa.default_memory_pool().backend_name == before
    assert made.to_pylist() == list(range(1000))


def test_an_error_puts_it_back_too() -> None:
    """Also when preparing fails."""
    before = pa.default_memory_pool().backend_name
    with pytest.raises(ZeroDivisionError), system_allocator():
        1 / 0  # noqa: B018
    assert pa.default_memory_pool().backend_name == before
