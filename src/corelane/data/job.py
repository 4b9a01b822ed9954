"""What is to be prepared: sources, configuration, the pipeline to fit, and which part a row belongs to.

`prepare.py` makes a job, `passes.py` carries it out, with `pieces.py` on the threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from corelane.core.types import Array, IntArray
from corelane.data.config import DataConfig
from corelane.data.processor import CPUDataProcessor
from corelane.data.rules import RowRules
from corelane.data.source import DataSource
from corelane.data.split import TEST, part_of
from corelane.data.taken_over import Fittable

DATA, TEST_DATA = "data", "test"  # the sources' names in the quarantine


class NamedSource(NamedTuple):
    """A source and its name in the quarantine."""

    name: str
    rows: DataSource


@dataclass(frozen=True)
class Job:
    """What is prepared: the sources, what was configured, the pipeline to fit, what rows must keep to besides, and the
    memory that what is remembered of them may take.
    """

    source: DataSource
    test_source: DataSource | None
    config: DataConfig
    unfitted: Fittable
    seed: int
    processor: CPUDataProcessor
    rules: RowRules
    budget_bytes: int

    def sources(self) -> Iterator[NamedSource]:
        """The source, then the test source where there is one."""
        yield NamedSource(DATA, self.source)
        if self.test_source is not None:
            yield NamedSource(TEST_DATA, self.test_source)

    def parts_of(self, source: str, positions: IntArray) -> Array:
        """The part of the rows at `positions` [n] of the source of that name: int8 [n]."""
        if source == TEST_DATA:
            return np.full(len(positions), TEST, dtype=np.int8)
        return part_of(self.seed, positions, self.config.split, has_test_source=self.test_source is not None)
