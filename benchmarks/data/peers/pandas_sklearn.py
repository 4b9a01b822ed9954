"""pandas and scikit-learn's `ColumnTransformer`, from the Parquet file to the same float32 `.npy` files of three parts.

Texts become pandas categories first, with which all of it takes a third of the time: imputing texts takes 19 s in all
on two cores, imputing after encoding 10 s, categories 6 s, and two jobs do not help. Nothing is flushed to the disk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.data.cases import LABEL, Case


def run(case: Case, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Seconds until the last file is written."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    del case
    with TemporaryDirectory(dir=inputs["scratch"]) as folder:
        start = time.perf_counter()
        frame = pd.read_parquet(inputs["table"])
        parts = np.load(inputs["parts"])
        label = frame.pop(LABEL).to_numpy()
        numbers = [name for name in frame.columns if name.startswith("number")]
        categories = [name for name in frame.columns if name.startswith("category")]
        frame = frame.astype(dict.fromkeys(categories, "category"))
        transformer = ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
                (
                    "categories",
                    make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder(dtype=np.float32)),
                    categories,
                ),
            ]
        )
        transformer.fit(frame[parts == 0])
        shapes = []
        for part in range(3):
            chosen = parts == part
            features = transformer.transform(frame[chosen]).astype(np.float32)
            np.save(Path(folder, f"features-{part}.npy"), features)
            np.save(Path(folder, f"target-{part}.npy"), label[chosen])
            shapes.append(list(features.shape))
        return {"value": time.perf_counter() - start, "shapes": shapes}
