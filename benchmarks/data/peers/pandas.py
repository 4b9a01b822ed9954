"""`pandas.read_sql` through SQLAlchemy and psycopg, as its documentation shows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from benchmarks.data.cases import Case


def run(case: Case, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Seconds until all rows are a data frame."""
    del case
    import pandas
    import sqlalchemy

    engine = sqlalchemy.create_engine(inputs["url"].replace("postgresql://", "postgresql+psycopg://"))
    start = time.perf_counter()
    frame = pandas.read_sql(f"SELECT * FROM {inputs['name']}", engine)
    return {"value": time.perf_counter() - start, "shapes": [list(frame.shape)]}
