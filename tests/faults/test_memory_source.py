"""C15: rows in memory that somebody writes to while a network trains on them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from corelane.app import train
from corelane.data.sources import memory

FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "arrays": lambda x, y: {"x": x, "y": y},
    "tensors": lambda x, y: {"x": torch.from_numpy(x), "y": torch.from_numpy(y)},
    "frame": lambda x, y: pd.DataFrame({"x": x[:, 0], "z": x[:, 1], "y": y}),
}


def weights(form: str, folder: Path, *, is_written_to: bool) -> bytes:
    """The final weights of a training, during which somebody overwrites the rows or nobody does."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    data = FORMS[form](x, y)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            _overwrite(data)

    writer = threading.Thread(target=write)
    taken = memory.take_over

    def then_write(given: Any) -> Any:
        result = taken(given)
        if is_written_to:
            writer.start()
        return result

    config = {
        "name": form,
        "data": {"target": "y"},
        "machine": {"cache": str(folder / "cache"), "threads": 1},
        "model": {"net": "mlp", "hidden": [8]},
        "train": {"epochs": 3},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "take_over", then_write)
        run = train(config, data=data, runs=folder / "runs", quiet=True)
    stop.set()
    if writer.is_alive():
        writer.join()
    newest = max((run.directory / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return (newest / "model.safetensors").read_bytes()


def _overwrite(data: Any) -> None:
    if isinstance(data, pd.DataFrame):
        data.iloc[:, 0] = 7.0
    else:
        data["x"][:] = 7.0


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_to_the_rows_meanwhile_is_not_trained_on(form: str, tmp_path: Path) -> None:
    """C15: from the moment the source is made its rows are its own: the weights are those of the rows as given."""
    calm = weights(form, tmp_path / "calm", is_written_to=False)
    assert weights(form, tmp_path / "written", is_written_to=True) == calm
