"""What is measured: each case's quantity, peers, size and memory limit. Standard library only, so that any peer's
environment can read it; what the data are is in `generate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from benchmarks.measure import Quantity

NUM_NUMBERS, NUM_CATEGORIES, NUM_LEVELS = 20, 10, 10
MISSING_SHARE = 0.02
LABEL = "label"
BATCH_SIZE = 256
NUM_THREADS = 2

SECONDS = Quantity("s", is_higher_better=False)
MEBIBYTES = Quantity("MiB", is_higher_better=False)
ROWS_PER_S = Quantity("rows/s", is_higher_better=True)
MEGABYTES_PER_S = Quantity("MB/s", is_higher_better=True)
EXAMPLES_PER_S = Quantity("examples/s", is_higher_better=True)

Kind: TypeAlias = Literal["table", "database", "arrays", "images"]
"""What a case reads: a Parquet table, a PostgreSQL table, prepared arrays on disk, or images."""

GIB = 1 << 30
PREPARE_LIMIT_BYTES = 3 * GIB // 2


@dataclass(frozen=True, slots=True)
class Case:
    """One thing measured. `num_rows` of `width` (features, or the side of an image); `limit_bytes` is the memory of the
    control group that our engine runs in, and the peers too where `limits_peers`.
    """

    name: str
    kind: Kind
    quantity: Quantity
    peers: tuple[str, ...]
    num_rows: int
    num_quick_rows: int
    width: int = NUM_NUMBERS + NUM_CATEGORIES
    limit_bytes: int | None = None
    limits_peers: bool = False


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "parquet-prepare",
            "table",
            SECONDS,
            ("pandas-sklearn",),
            num_rows=2_000_000,
            num_quick_rows=2_000_000,
            limit_bytes=PREPARE_LIMIT_BYTES,
        ),
        Case(
            "prepare-memory",
            "table",
            MEBIBYTES,
            ("bar",),
            num_rows=6_000_000,
            num_quick_rows=6_000_000,
            limit_bytes=PREPARE_LIMIT_BYTES,
        ),
        Case("second-start", "table", SECONDS, ("bar",), num_rows=2_000_000, num_quick_rows=2_000_000),
        Case("postgres-read", "database", SECONDS, ("pandas",), num_rows=1_000_000, num_quick_rows=1_000_000, width=20),
        Case(
            "batches-random",
            "arrays",
            ROWS_PER_S,
            ("torch-dataloader",),
            num_rows=2_000_000,
            num_quick_rows=1_000_000,
            width=32,
        ),
        Case(
            "batches-random-784",
            "arrays",
            ROWS_PER_S,
            ("torch-dataloader",),
            num_rows=120_000,
            num_quick_rows=60_000,
            width=784,
        ),
        Case(
            "batches-3x-memory",
            "arrays",
            MEGABYTES_PER_S,
            ("disk", "torch-dataloader"),
            num_rows=1_027_000,  # of 3,144 bytes with the target: 3.2 GB, three times the limit
            num_quick_rows=1_027_000,
            width=784,
            limit_bytes=GIB,
            limits_peers=True,
        ),
        Case(
            "augment-cnn", "images", EXAMPLES_PER_S, ("no-augment",), num_rows=20_000, num_quick_rows=10_000, width=28
        ),
        Case(
            "augment-cnn-32x32",
            "images",
            EXAMPLES_PER_S,
            ("no-augment",),
            num_rows=20_000,
            num_quick_rows=10_000,
            width=32,
        ),
    )
}
