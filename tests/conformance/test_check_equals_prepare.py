"""Looking at data and preparing them agree: the same rows are refused, dropped, copies and kept, whatever the rules."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corelane.core.errors import DataError
from corelane.data.config import DataConfig, MemoryConfig, PipelineConfig
from corelane.data.inspection import inspect_source
from corelane.data.prepare import prepare
from corelane.data.processor import CPUDataProcessor
from corelane.data.sources.memory import InMemorySource
from corelane.observe.log import SystemLogger
from corelane.store.tiers.disk import DiskTier

cells = st.sampled_from(["1", "2", "2.0", "3.5", "x", "", None, "1e400", "-7", " 2 "])
names = st.sampled_from(["a", "b", " b", "", None, "NA", "long name", "c1"])
targets = st.sampled_from(["1", "2", "3.5", "4", ""])
number_rules = st.fixed_dictionaries(
    {"kind": st.just("numeric")},
    optional={
        "minimum": st.just(0.0),
        "maximum": st.just(3.0),
        "unreadable": st.sampled_from(["reject", "missing"]),
        "unique": st.booleans(),
        "on_fault": st.sampled_from(["quarantine", "drop"]),
    },
)
text_rules = st.fixed_dictionaries(
    {"kind": st.just("categorical")},
    optional={
        "pattern": st.sampled_from(["[a-c]", "[a-z ]*"]),
        "trim": st.booleans(),
        "unreadable": st.sampled_from(["reject", "missing"]),
        "unique": st.booleans(),
        "on_fault": st.sampled_from(["quarantine", "drop"]),
    },
)


@given(
    rows=st.lists(st.tuples(cells, names, targets), min_size=8, max_size=40),
    x=number_rules,
    name=text_rules,
    outside=st.sampled_from([None, "clip", "missing"]),
    deduplicate=st.sampled_from([False, True, ["name"], ["x", "name"]]),
    batch_rows=st.integers(1, 50),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_both_count_the_same_rows(
    rows: list[tuple[Any, ...]],
    x: dict[str, Any],
    name: dict[str, Any],
    outside: str | None,
    deduplicate: Any,
    batch_rows: int,
) -> None:
    """Kept, refused by place, dropped and copies: what a check says of rows is what preparing does with them."""
    if outside is not None and {"minimum", "maximum"} & x.keys():
        x = {**x, "outside": outside}
    columns = {"x": x, "name": name, "y": {"kind": "numeric"}}
    config = DataConfig(
        source=MemoryConfig(),
        target="y",
        task="regression",
        columns=columns,  # type: ignore[arg-type]
        deduplicate=deduplicate,
        max_rejected=1.0,
    )
    data = {name: [row[index] for row in rows] for index, name in enumerate(("x", "name", "y"))}
    source = InMemorySource(data, batch_rows=batch_rows)
    with tempfile.TemporaryDirectory() as folder, CPUDataProcessor(0) as processor:
        quarantine = Path(folder) / "quarantine.parquet"
        try:
            found = inspect_source(source, config, PipelineConfig(), ("y",), processor=processor, budget_bytes=1 << 20)
            with SystemLogger(stream=io.StringIO()) as logger:
                prepared = prepare(
                    source,
                    config,
                    PipelineConfig(),
                    seed=1,
                    cache=DiskTier(Path(folder) / "cache"),
                    quarantine=quarantine,
                    logger=logger,
                    processor=processor,
                )
        except DataError:  # a column or a part without a value: nothing to compare
            return
        parts = (prepared.train, prepared.validation, prepared.test)
        kept = np.concatenate([part.positions for part in parts])
        assert (found.num_kept, found.num_refused, found.num_dropped, found.num_copies) == (
            len(kept),
            prepared.num_rejected,
            prepared.num_dropped,
            prepared.num_deduplicated,
        )
        assert found.num_rows == len(rows)
        refused = sorted(pq.read_table(quarantine).column("position").to_pylist())
        told = sorted(position for fault in found.faults if not fault.is_dropped for position in fault.positions)
        assert set(told) <= set(refused)
        assert len(set(kept.tolist())) == len(kept)
        assert not set(kept.tolist()) & set(refused)
