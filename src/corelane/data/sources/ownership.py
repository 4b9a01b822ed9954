"""Who may still change rows that are in memory: what can be changed behind the source's back is copied, or frozen.

Training reads its rows several times and trusts their digest. Arrow's and Polars' memory cannot be changed. A NumPy
array that its owner may write to is copied up to a size, beyond it made read-only: writing to it is then an error where
it happens, and not a silent change of what is being trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

Ownership: TypeAlias = Literal["shared", "copied", "frozen"]

COPIED_BYTES = 256 << 20  # a larger array is frozen: a second copy of it could cost the memory that training needs


def take_over(data: Any) -> tuple[Any, dict[str, Ownership]]:
    """`data` as nobody can change it any more, and what was done to each column ("" stands for the whole)."""
    if isinstance(data, tuple) and len(data) == 2 and not any(isinstance(part, Mapping) for part in data):
        data = {"x": data[0], "y": data[1]}
    if isinstance(data, Mapping):
        taken = {str(name): _take_column(values) for name, values in data.items()}
        return {name: values for name, (values, _) in taken.items()}, {name: how for name, (_, how) in taken.items()}
    if hasattr(data, "iloc") and hasattr(data, "__arrow_c_stream__"):  # pandas: Arrow sees its writeable blocks
        table = pa.table(data)
        return table.take(pa.array(np.arange(table.num_rows))), {"": "copied"}
    if isinstance(data, pa.Table | pa.RecordBatch) or hasattr(data, "__arrow_c_stream__"):
        return data, {"": "shared"}
    return data, {"": "copied"}  # a list of dicts becomes columns


def _take_column(values: Any) -> tuple[Any, Ownership]:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values, "shared"
    if not isinstance(values, np.ndarray):
        if hasattr(values, "__dlpack__"):  # a tensor, which its owner can go on writing to
            return np.from_dlpack(values).copy(), "copied"
        return values, "copied"
    if _is_constant(values):
        return values, "shared"
    if values.nbytes <= COPIED_BYTES or values.base is not None:  # a view's memory can be written through its base
        return values.copy(), "copied"
    values.flags.writeable = False
    return values, "frozen"


def _is_constant(values: np.ndarray[Any, Any]) -> bool:
    """Whether neither the array nor what it is a view of can be written to."""
    while isinstance(values, np.ndarray):
        if values.flags.writeable:
            return False
        if values.base is None:
            return True
        values = values.base
    return isinstance(values, bytes)
