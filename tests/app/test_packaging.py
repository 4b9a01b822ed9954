"""Packaging goes through a real server, also for what JSON cannot hold as it is: pictures, and missing values."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corelane.app import load, package, train
from corelane.app.packaging import packaged
from corelane.core.errors import BundleError, ConfigError, SkewError
from corelane.model.package import versions_of


def test_a_folder_of_pictures_is_packaged_and_answers(tmp_path: Path) -> None:
    """Encoded images pass the gate as base64, and a served folder model answers a file's bytes."""
    generator = np.random.default_rng(0)
    for index in range(80):
        folder = tmp_path / "pictures" / ("dark" if index % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 90, (8, 8), dtype=np.uint8) + (0 if index % 2 else 160)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    config = {
        "name": "pictures",
        "data": {"source": {"type": "filesystem", "path": str(tmp_path / "pictures")}, "target": "label"},
        "model": {"net": "cnn", "channels": [4]},
        "machine": {"cache": str(tmp_path / "cache")},
        "train": {"epochs": 8, "batch_size": 16},
    }
    run = train(config, runs=tmp_path / "runs", quiet=True)
    path = package(run.directory, directory=tmp_path / "packages")
    with load(path) as model:
        picture = (tmp_path / "pictures" / "dark" / "1.png").read_bytes()
        assert model.predict_columns({"image": [picture]})["label"].tolist() == ["dark"]


def test_the_rules_of_columns_hold_in_a_package(tmp_path: Path) -> None:
    """What training clipped, took for missing or kept with its spaces, a package does too; rows are not compared."""
    random = np.random.default_rng(0)
    rows = {
        "age": [str(value) for value in random.integers(18, 90, 300)],
        "code": [f"A{value}" for value in random.integers(0, 9, 300)],
        "city": [(" Rome", "Rome")[index % 2] for index in range(300)],
        "y": [("a", "b")[index // 3 % 2] for index in range(300)],
    }
    rows["age"][3:5], rows["code"][6] = ["old", "900"], "zzz"
    age = {"kind": "numeric", "maximum": 120, "outside": "clip", "unreadable": "missing", "unique": False}
    columns = {"age": age, "code": {"pattern": "A[0-9]", "unreadable": "missing"}, "city": {"trim": False}}
    config = {
        "name": "rules",
        "data": {"target": "y", "columns": columns, "deduplicate": True, "max_rejected": "0 %"},
        "machine": {"cache": str(tmp_path / "cache")},
        "train": {"epochs": 2},
    }
    run = train(config, data=rows, runs=tmp_path / "runs", quiet=True)
    with load(package(run.directory, directory=tmp_path / "packages")) as model:

        def answer(**changes: object) -> object:
            row = {"age": 40, "code": "A1", "city": "Rome", **changes}
            return model.predict_rows([row, row])[1]["probabilities"]

        assert answer(age=1e9) == answer(age="900") == answer(age=120) != answer(age=40)
        assert answer(age="old") == answer(age=float("inf")) == answer(age=None)
        assert answer(code="nope") == answer(code=["A1"]) == answer(code=None)
        assert answer(city=" Rome") != answer(city="Rome")


def test_a_package_that_answers_otherwise_is_not_published(tmp_path: Path) -> None:
    """Where the packaged graph and the module disagree, the gate says so and nothing is published."""
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    config = {"name": "skewed", "data": {"target": "y"}, "machine": {"cache": str(tmp_path / "cache")}}
    run = train(config, data={"x": x, "y": (x[:, 0] > 0).astype(int)}, runs=tmp_path / "runs", quiet=True)
    calls = []

    def differ(module: object, inputs: object, output: object) -> object:
        calls.append(1)
        return output * (1.0 + len(calls))  # type: ignore[operator]

    run.module.register_forward_hook(differ)
    with pytest.raises(SkewError):
        package(run, directory=tmp_path / "packages")
    assert versions_of(tmp_path / "packages" / "skewed") == []


def test_a_run_is_packaged_once(tmp_path: Path) -> None:
    """Where its package is there, that is it; a whole one, of this run. Who asks for another gets the next version."""
    x = np.random.default_rng(0).normal(size=(200, 3))
    config = {
        "name": "once",
        "data": {"source": {"type": "filesystem", "path": str(tmp_path / "x.csv")}, "target": "y"},
        "model": {"net": "mlp", "hidden": [4]},
        "machine": {"cache": str(tmp_path / "cache"), "plan": "eager"},
        "train": {"epochs": 1},
    }
    lines = [f"{a},{b},{c},{'p' if a > 0 else 'n'}" for a, b, c in x]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c,y", *lines]))
    run, other = (train(config, runs=tmp_path / "runs", quiet=True).directory for _ in range(2))
    packages = tmp_path / "packages"
    assert packaged(run, directory=packages) == packages / "once/1"
    assert packaged(run, directory=packages) == packages / "once/1"
    assert package(run, directory=packages) == packages / "once/2"
    assert packaged(other, directory=packages) == packages / "once/3"
    (packages / "once/2/weights.safetensors").unlink()
    assert packaged(run, directory=packages) == packages / "once/1"


def test_a_broken_last_checkpoint_is_not_replaced_by_an_older_one(tmp_path: Path) -> None:
    """The result tells of the last checkpoint's weights, so no others are packaged under its figures."""
    x = np.random.default_rng(0).normal(size=(200, 3))
    config = {
        "name": "broken",
        "data": {"source": {"type": "filesystem", "path": str(tmp_path / "x.csv")}, "target": "y"},
        "machine": {"cache": str(tmp_path / "cache")},
        "train": {"epochs": 2, "save_interval": 1},
    }
    lines = [f"{a},{b},{c},{'p' if a > 0 else 'n'}" for a, b, c in x]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c,y", *lines]))
    run = train(config, runs=tmp_path / "runs", quiet=True)
    weights = run.directory / "checkpoints" / str(run.result.num_steps) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match=r"model\.safetensors.*result\.json"):
        package(run.directory, directory=tmp_path / "packages")
    assert versions_of(tmp_path / "packages" / "broken") == []


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    """A folder that is none, and a run without a result, are told apart and told."""
    with pytest.raises(ConfigError, match="run directory"):
        package(tmp_path)
    (tmp_path / "config.yaml").write_text("name: a\n")
    with pytest.raises(ConfigError, match="finished"):
        package(tmp_path)
