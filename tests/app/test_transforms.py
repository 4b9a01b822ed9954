"""Every transform that a configuration can name goes the whole way: fitted, trained on, packaged, asked for."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from corelane.app import load, package, train

NUM_ROWS = 400
SCALINGS = ["standardise", "normalise", "min_max", "robust", "quantile", "quantile_normal", "log", "none"]
ENCODINGS = ["one_hot", "ordinal", "hashing"]
PARTS = ["elapsed", "year", "month", "day", "day_of_year", "weekday", "is_weekend", "hour", "minute"]


def rows() -> dict[str, list[Any]]:
    """A column for each transform, gaps in all of them, and a target that the first number decides."""
    random = np.random.default_rng(0)
    numbers = {scaling: random.lognormal(0.0, 1.0, NUM_ROWS) - 1.0 for scaling in SCALINGS}
    colours = {encoding: random.choice(["red", "green", "blue"], NUM_ROWS) for encoding in ENCODINGS}
    first = datetime.datetime(2021, 1, 1)
    days = [first + datetime.timedelta(hours=int(hour)) for hour in random.integers(0, 30_000, NUM_ROWS)]
    table: dict[str, list[Any]] = {
        **{name: column.tolist() for name, column in {**numbers, **colours}.items()},
        "day": days,
    }
    for index, column in enumerate(table.values()):
        column[index::40] = [None] * len(column[index::40])
    table["vector"] = random.normal(size=(NUM_ROWS, 3)).tolist()
    table["y"] = ["up" if value > 0 else "down" for value in numbers["standardise"]]
    return table


def config(tmp_path: Path, **sections: Any) -> dict[str, Any]:
    machine = {"cache": str(tmp_path / "cache")}
    return {"name": "all", "machine": machine, "train": {"epochs": 2}, **sections}


def test_every_transform_of_a_table(tmp_path: Path) -> None:
    """Scalings, encodings, date parts, vectors, indicators: the package passes the gate, and every change counts."""
    table = rows()
    columns: dict[str, Any] = {name: {"numeric": name} for name in SCALINGS}
    columns |= {"one_hot": {"categorical": "one_hot"}, "ordinal": {"categorical": "ordinal", "impute": "mode"}}
    columns["hashing"] = {"categorical": "hashing", "hash_buckets": 8}
    columns["day"] = {"date": PARTS}
    columns["robust"] |= {"impute": "mean"}
    columns["log"] |= {"impute": "constant", "fill_value": 2.0}
    columns["quantile"] |= {"impute": "mode"}
    made = config(tmp_path, data={"target": "y"}, pipeline={"missing_indicator": True, "columns": columns})
    run = train(made, data=table, runs=tmp_path / "runs", quiet=True)
    path = package(run, directory=tmp_path / "packages")
    stages = json.dumps(json.loads((path / "pipeline.json").read_text()))
    assert all(f'"{name}"' in stages for name in (*SCALINGS, *ENCODINGS))
    with load(path) as model:
        row = {name: column[0] for name, column in table.items() if name != "y"}
        gaps = {name: None for name in row if name != "vector"}
        unseen = {"one_hot": "violet", "ordinal": "violet", "hashing": "violet"}
        answers = model.predict_rows([row, {**row, **gaps}, {**row, **unseen}])
    assert all(abs(sum(answer["probabilities"].values()) - 1.0) < 1e-5 for answer in answers)
    assert len({tuple(answer["probabilities"].values()) for answer in answers}) == 3


@pytest.mark.parametrize(
    "image",
    [
        {"size": [6, 6], "fit": "crop", "crop": 0.8, "channels": 1, "mean": [0.5], "std": [0.25]},
        {"size": [6, 10], "fit": "pad", "background": "black", "normalise": "unit"},
    ],
    ids=["cropped", "padded"],
)
def test_every_geometry_of_pictures(tmp_path: Path, image: dict[str, Any]) -> None:
    """Resized, cropped, padded, turned grey and scaled: pictures of any size pass the gate, and are told apart."""
    random = np.random.default_rng(0)
    for index in range(60):
        folder = tmp_path / "pictures" / ("dark" if index % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        size = (8 + index % 5, 9 + index % 3, 3)
        pixels = random.integers(0, 90, size, dtype=np.uint8) + (0 if index % 2 else 160)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    made = config(
        tmp_path,
        data={"source": str(tmp_path / "pictures"), "target": "label"},
        pipeline={"image": image},
        model={"net": "cnn", "channels": [4]},
    )
    run = train({**made, "train": {"epochs": 8, "batch_size": 16}}, runs=tmp_path / "runs", quiet=True)
    with load(package(run, directory=tmp_path / "packages")) as model:
        files = [(tmp_path / "pictures" / name).read_bytes() for name in ("dark/1.png", "light/2.png")]
        dark, light = (answer["probabilities"]["dark"] for answer in model.predict_rows([{"image": f} for f in files]))
    assert dark > light
