"""Rows in memory do not change under a training: they are shared where they cannot, else copied or frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from corelane.data.sources import ownership
from corelane.data.sources.memory import InMemorySource


def values(source: InMemorySource) -> list[Any]:
    return [row for batch in source.batches() for row in batch.rows.column("x").to_pylist()]


def test_a_writeable_array_is_copied() -> None:
    """What the caller writes afterwards is not seen, and the digest stays that of the rows."""
    array = np.arange(5.0)
    source = InMemorySource({"x": array})
    before = source.fingerprint()
    array[0] = 99.0
    assert source.ownership == {"x": "copied"}
    assert values(source) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert InMemorySource({"x": np.arange(5.0)}).fingerprint() == before


def test_a_large_array_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the size up to which arrays are copied, writing is an error where it happens."""
    monkeypatch.setattr(ownership, "COPIED_BYTES", 8)
    array = np.arange(5.0)
    source = InMemorySource({"x": array})
    assert source.ownership == {"x": "frozen"}
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 99.0
    assert values(source) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_large_view_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freezing a view would leave its base writeable."""
    monkeypatch.setattr(ownership, "COPIED_BYTES", 8)
    base = np.arange(10.0)
    source = InMemorySource({"x": base[:5]})
    base[0] = 99.0
    assert source.ownership == {"x": "copied"}
    assert values(source)[0] == 0.0


def test_a_read_only_view_of_something_writeable_is_copied() -> None:
    """The flag of a view says nothing about its base."""
    base = np.arange(5.0)
    view = base.view()
    view.flags.writeable = False
    source = InMemorySource({"x": view})
    base[0] = 99.0
    assert values(source)[0] == 0.0


def test_memory_that_cannot_change_is_shared() -> None:
    """Arrow, Polars and read-only arrays are taken as they are."""
    constant = np.arange(5.0)
    constant.flags.writeable = False
    assert InMemorySource({"x": constant, "y": pa.array(range(5))}).ownership == {"x": "shared", "y": "shared"}
    assert InMemorySource(pa.table({"x": range(5)})).ownership == {"": "shared"}
    assert InMemorySource(pl.DataFrame({"x": range(5)})).ownership == {"": "shared"}


def test_frames_and_tensors_that_can_change_are_copied() -> None:
    """What pandas or torch write in place afterwards is not seen."""
    frame, tensor = pd.DataFrame({"x": np.arange(5.0)}), torch.arange(5.0)
    sources = [InMemorySource(frame), InMemorySource({"x": tensor})]
    frame.iloc[0, 0] = 99.0
    tensor[0] = 99.0
    for source in sources:
        assert values(source) == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert set(source.ownership.values()) == {"copied"}


def test_what_was_done_is_told() -> None:
    """One event with what became of each column."""
    told: list[Any] = []
    InMemorySource({"x": np.arange(3)}, tell=lambda event, fields: told.append((event, fields)))
    assert told == [("memory_taken", {"x": "copied"})]
