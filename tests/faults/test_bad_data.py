"""Bad data, end to end: each fault gets one clear line that says what to do, and nothing that was there is lost."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from corelane.app import train as train_here
from corelane.core.errors import ConfigError, CorelaneError, DataError, NonFiniteLossError


def _rows(num_rows: int = 120) -> list[list[str]]:
    generator = np.random.default_rng(0)
    table = [["age", "plan", "churned"]]
    for index in range(num_rows):
        age = int(generator.integers(18, 80))
        table.append([str(age), ["basic", "extra"][index % 2], "yes" if age > 50 else "no"])
    return table


def _write(path: Path, table: list[list[str]]) -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in table))
    return path


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Train on a file in `tmp_path` with a small net, and return the run directory."""

    def run(path: str, target: str = "churned", **sections: dict[str, object]) -> Path:
        config = {
            "name": "bad",
            "data": {"source": {"type": "filesystem", "path": str(tmp_path / path)}, "target": target},
            "machine": {"cache": str(tmp_path / "cache")},
            "model": {"net": "mlp", "hidden": [8]},
            "train": {"epochs": 1},
        }
        for name, section in sections.items():
            config[name] = {**config.get(name, {}), **section}  # type: ignore[dict-item]
        return train_here(config, runs=tmp_path / "runs", quiet=True).directory

    return run


def _without(column: int) -> list[list[str]]:
    return [[cell for index, cell in enumerate(row) if index != column] for row in _rows()]


def _filled(column: int, value: str) -> list[list[str]]:
    table = _rows()
    return [table[0], *([*row[:column], value, *row[column + 1 :]] for row in table[1:])]


FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda path: None, ["data.csv"]),
    "empty": (lambda path: path.write_bytes(b""), ["data.csv"]),
    "header only": (lambda path: _write(path, _rows(0)), ["row"]),
    "target absent": (lambda path: _write(path, _without(2)), ["churned"]),
    "column all missing": (lambda path: _write(path, _filled(0, "")), ["age", "exclude"]),
    "one class only": (lambda path: _write(path, _filled(2, "yes")), ["churned", "two different labels"]),
    "not text": (lambda path: path.write_bytes(b"age,plan\xff\xfe\x00\n\xff,1\n" * 40), ["data.csv"]),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 20), ["data.csv", "binary"]),
    "a name twice": (lambda path: _write(path, [["age", "age", "churned"], *_rows()[1:]]), ["age"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_unusable_data_is_one_clear_line(fault: str, tmp_path: Path, train: Callable[..., Path]) -> None:
    """C11: Data that cannot be used as a whole is refused before training, in one line that names the matter."""
    make, words = FAULTS[fault]
    make(tmp_path / "data.csv")
    with pytest.raises((DataError, ConfigError)) as caught:
        train("data.csv")
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "the message says what to do"
    for word in words:
        assert word in str(caught.value)


def test_a_truncated_archive_is_refused(tmp_path: Path, train: Callable[..., Path]) -> None:
    """C11: A gzipped file that was cut short is not taken for a shorter table."""
    whole = gzip.compress(_write(tmp_path / "data.csv", _rows(5000)).read_bytes())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorelaneError, match=r"cut\.csv\.gz"):
        train("cut.csv.gz")


def test_a_bad_cell_rejects_its_row_with_number_and_reason(tmp_path: Path, train: Callable[..., Path]) -> None:
    """C11: A word where a number must be costs that row alone; the quarantine names row 17, column and reason."""
    table = _rows()
    table[17][0] = "old"
    _write(tmp_path / "data.csv", table)
    run = train("data.csv")
    quarantine = pq.read_table(run / "quarantine.parquet").to_pylist()
    assert len(quarantine) == 1
    assert 17 in quarantine[0].values()
    assert "old" in str(quarantine[0])
    assert quarantine[0]["column"] == "age"


def test_a_repeated_id_is_quarantined(tmp_path: Path, train: Callable[..., Path]) -> None:
    """C11: of the rows that share a value which must be unique the first stays, the others are set aside."""
    table = [["id", *row] if index == 0 else [str(index), *row] for index, row in enumerate(_rows())]
    table[40][0] = table[90][0] = "7"
    _write(tmp_path / "data.csv", table)
    run = train("data.csv", data={"columns": {"id": {"unique": True}}})
    quarantine = pq.read_table(run / "quarantine.parquet").to_pylist()
    assert [(row["row_number"], row["column"]) for row in quarantine] == [(40, "id"), (90, "id")]


def test_too_many_bad_rows_stop_the_run(tmp_path: Path, train: Callable[..., Path]) -> None:
    """C11: Past the budget the run stops, says how many, and the quarantine is there to read."""
    table = _rows()
    for row in table[1:40]:
        row[2] = ""
    _write(tmp_path / "data.csv", table)
    with pytest.raises(DataError, match="max_rejected"):
        train("data.csv")
    assert pq.read_table(next((tmp_path / "runs").glob("*/quarantine.parquet"))).num_rows == 39


def test_a_label_never_seen_in_training_is_quarantined(tmp_path: Path, train: Callable[..., Path]) -> None:
    """A class of the test set that training never saw is set aside with that reason."""
    _write(tmp_path / "data.csv", _rows())
    odd = _rows(40)
    odd[5][2] = "perhaps"
    _write(tmp_path / "test.csv", odd)
    run = train("data.csv", data={"test": {"type": "filesystem", "path": str(tmp_path / "test.csv")}})
    quarantine = pq.read_table(run / "quarantine.parquet").to_pylist()
    assert len(quarantine) == 1
    assert "perhaps" in str(quarantine[0])


def test_an_image_of_another_size_is_quarantined(tmp_path: Path, train: Callable[..., Path]) -> None:
    """C12: One picture of another size is set aside, with its size in the reason; the others train."""
    generator = np.random.default_rng(0)
    for index in range(60):
        folder = tmp_path / "pictures" / ("dark" if index % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        size = (9, 8) if index == 30 else (8, 8)
        pixels = generator.integers(0, 100, size, dtype=np.uint8) + (0 if index % 2 else 150)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    run = train("pictures", target="label")
    quarantine = pq.read_table(run / "quarantine.parquet").to_pylist()
    assert len(quarantine) == 1
    assert "9" in quarantine[0]["reason"]


def test_a_loss_that_is_not_a_number_stops_with_advice(tmp_path: Path, train: Callable[..., Path]) -> None:
    """A diverging run stops, and says at which step and what to change."""
    _write(tmp_path / "data.csv", _rows(600))
    with pytest.raises(NonFiniteLossError, match="learning_rate"):
        train(
            "data.csv",
            pipeline={"numeric": "none"},
            train={"epochs": 30, "learning_rate": 1e36, "clip_norm": None, "scheduler": "constant", "log_interval": 1},
        )
