"""Every network the whole way: trained by `train`, packaged through the skew gate, answering as it was measured.

Each learns something that a network of its kind must be able to learn, to a stated accuracy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.app.packaging import package
from corelane.app.training import train
from corelane.core.errors import ConfigError
from corelane.core.types import Array
from corelane.model.package import ModelPackage


def tokens() -> dict[str, Array]:
    """Rows of 12 tokens; the label says whether token 7 is among them."""
    random = np.random.default_rng(0)
    text = random.integers(8, 50, (1200, 12))
    label = np.arange(1200) % 2
    text[np.flatnonzero(label), random.integers(0, 12, label.sum())] = 7
    return {"text": text, "label": label}


def series() -> dict[str, Array]:
    """Two noisy series of 20 steps; the label says which of them rose more from its first step to its last."""
    walks = np.random.default_rng(0).normal(size=(1500, 20, 2)).cumsum(axis=1).astype(np.float32)
    rise = walks[:, -1] - walks[:, 0]
    return {"walk": walks, "label": (rise[:, 0] > rise[:, 1]).astype(np.int64)}


def pictures() -> dict[str, Array]:
    """Grey pictures of 12x12 with a bright stripe; the label says whether it lies or stands."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 120, (400, 12, 12, 1), dtype=np.uint8)
    label = np.arange(400) % 2
    for picture, stands, at in zip(pixels, label, random.integers(0, 12, 400), strict=True):
        stripe = picture[:, at] if stands else picture[at]
        stripe[...] = 200
    return {"picture": pixels, "label": label}


def table() -> dict[str, Array]:
    """Three numbers and a category; the target jumps with one number, by how much the category says."""
    random = np.random.default_rng(0)
    x = random.random((1500, 3))
    kind = random.integers(0, 3, 1500)
    y = np.where((x[:, 0] * 6).astype(int) % 2, 1.0, -1.0) * (1.0 + kind) + x[:, 1]
    return {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": np.array(["p", "q", "r"])[kind], "y": y}


TOKENS = {"columns": {"text": {"vocabulary": 50}}}


@pytest.mark.parametrize(
    ("net", "rows", "target", "data", "model", "train_options", "metric", "least"),
    [
        (
            "transformer",
            tokens,
            "label",
            TOKENS,
            {"net": "auto", "width": 32, "layers": 1, "feed_forward": 64, "mask_padding": True},
            {"epochs": 12, "learning_rate": 3e-3, "batch_size": 32},
            "accuracy",
            0.95,
        ),
        ("gru", series, "label", {}, {"net": "auto"}, {"epochs": 15, "learning_rate": 1e-2}, "accuracy", 0.9),
        (
            "resnet",
            pictures,
            "label",
            {},
            {"net": "resnet", "channels": [8, 16]},
            {"epochs": 6, "learning_rate": 1e-2, "batch_size": 32},
            "accuracy",
            0.95,
        ),
        (
            "tabm",
            table,
            "y",
            {},
            {"hidden": [32, 32], "members": 4},
            {"epochs": 20, "learning_rate": 5e-3},
            "r2",
            0.9,
        ),
    ],
    ids=["transformer", "gru", "resnet", "tabm"],
)
def test_a_network_learns_and_is_served(
    net: str,
    rows: Any,
    target: str,
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    train_options: Mapping[str, Any],
    metric: str,
    least: float,
    tmp_path: Path,
) -> None:
    """Trained to its accuracy on rows it never saw; the server answers as torch does with the rebuilt net."""
    config = {
        "name": "net",
        "data": {"target": target, **data},
        "model": model,
        "train": train_options,
        "machine": {"cache": str(tmp_path / "cache")},
    }
    run = train(config, data=rows(), runs=tmp_path / "runs", quiet=True)
    assert run.result.metrics[f"test_{metric}"] >= least
    loaded = ModelPackage.load(package(run.directory, directory=tmp_path / "packages"))
    assert loaded.architecture["net"] == net
    assert json.loads((run.directory / "data" / "data.json").read_text())["model"]["net"] == net


def test_a_token_out_of_the_vocabulary_costs_its_row(tmp_path: Path) -> None:
    """A row with a token beyond the vocabulary is refused with its reason, in training and when it is asked."""
    rows = tokens()
    rows["text"][3, 5] = 50
    config = {
        "name": "net",
        "data": {"target": "label", **TOKENS},
        "model": {"net": "transformer", "width": 8, "layers": 1, "heads": 2, "feed_forward": 8},
        "train": {"epochs": 1},
        "machine": {"cache": str(tmp_path / "cache")},
    }
    run = train(config, data=rows, runs=tmp_path / "runs", quiet=True)
    assert (run.directory / "quarantine.parquet").stat().st_size > 0
    with ModelPackage.load(package(run, directory=tmp_path / "packages")).predictor() as predictor:
        good = rows["text"][:2]
        assert len(predictor.predict_columns({"text": good})["label"]) == 2
        with pytest.raises(Exception, match=r"row 1: text must be whole numbers from 0 to 49, got 50"):
            predictor.predict_columns({"text": np.array([good[0], np.full(12, 50)])})


def test_tokens_cannot_be_blended(tmp_path: Path) -> None:
    """Mixup of token ids would make other tokens, so it is refused before the first step."""
    config = {
        "name": "net",
        "data": {"target": "label", **TOKENS},
        "model": {"net": "transformer"},
        "train": {"epochs": 1, "augment": {"mixup": 0.2}},
        "machine": {"cache": str(tmp_path / "cache")},
    }
    with pytest.raises(ConfigError, match=r"train\.augment\.mixup must be left out for tokens"):
        train(config, data=tokens(), runs=tmp_path / "runs", quiet=True)
