"""What a run leaves in shared storage: raw data, its logs, its package; and what a store that fails costs."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from corelane.app import package, train
from corelane.app.archiving import archive_run
from corelane.app.config import load_root
from corelane.app.training import train_supervised
from corelane.core.errors import ConfigError
from corelane.data.sources.filesystem import fetch as fetching
from corelane.store.bundle import verify_bundle
from tests.servers.s3 import Bucket


def _rows() -> bytes:
    x = np.random.default_rng(0).normal(size=(200, 3))
    return ("a,b,c,y\n" + "".join(f"{a:.4f},{b:.4f},{c:.4f},{'in' if a > b else 'out'}\n" for a, b, c in x)).encode()


def _config(folder: Path, machine: dict[str, Any], source: Any) -> Path:
    folder.mkdir(exist_ok=True)
    config = {
        "name": "a",
        "data": {"source": source, "target": "y"},
        "model": {"net": "mlp", "hidden": [4]},
        "train": {"epochs": 1},
        "machine": {"cache": str(folder / "cache"), **machine},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "config.yaml"


def _local(folder: Path) -> str:
    (folder / "rows.csv").write_bytes(_rows())
    return str(folder / "rows.csv")


def _events(run: Path) -> list[str]:
    return [json.loads(line)["event"] for path in run.glob("logs/*.jsonl") for line in path.read_text().splitlines()]


def test_a_finished_run_and_its_package_are_archived(tmp_path: Path) -> None:
    """Configuration, history, report and logs under the run's name and key; the package whole, under its digest."""
    config = _config(tmp_path, {"cache_shared": (tmp_path / "shared").as_uri()}, _local(tmp_path))
    result = train_supervised(config, runs=tmp_path / "runs", resume=False, quiet=True)
    published = package(result["run"], directory=tmp_path / "packages")
    (run,) = (tmp_path / "shared" / "runs").iterdir()
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert run.name.startswith("a-001-")
    assert {"config.yaml", "metrics.jsonl", "result.json", "report.html", "logs/training.jsonl"} <= names
    verify_bundle(run, "run")
    (archived,) = (tmp_path / "shared" / "packages").iterdir()
    assert archived.name.startswith("a-1-")
    assert verify_bundle(archived, "package").digest == verify_bundle(published, "package").digest


def test_raw_data_come_from_the_archive(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second machine lists the objects and takes the files from the shared tier, not from where they come from."""
    bucket.files.pipe(f"{bucket.url}/rows.csv", _rows())
    source = {"type": "filesystem", "path": f"{bucket.url}/rows.csv", "storage_options": bucket.options}
    machine = {"cache_shared": f"{bucket.url}/cache", "cache_shared_options": dict(bucket.options)}
    first = train(_config(tmp_path / "one", machine, source), runs=tmp_path / "one", quiet=True)

    def refuse(*_: object) -> None:
        raise AssertionError("the archive has it")

    monkeypatch.setattr(fetching.RemoteStore, "fetch", refuse)
    second = train(_config(tmp_path / "two", machine, source), runs=tmp_path / "two", quiet=True)
    assert second.result.metrics == first.result.metrics


def test_a_store_that_fails_costs_a_warning(tmp_path: Path) -> None:
    """A file lies where the shared folder should be: the run trains, is packaged, and says so in its log."""
    (tmp_path / "shared").write_bytes(b"")
    machine = {"cache_shared": (tmp_path / "shared").as_uri()}
    (tmp_path / "remote").mkdir()
    source = _local(tmp_path / "remote")
    run = train(_config(tmp_path, machine, Path(source).as_uri()), runs=tmp_path, quiet=True)
    assert _events(run.directory).count("cache_shared_failed") == 1
    assert package(run, directory=tmp_path / "packages").is_dir()


def test_secrets_are_not_archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a configuration says literally stays on this machine; the names of variables are archived."""
    monkeypatch.setenv("TOKEN_HERE", "geheim-1")
    (tmp_path / "rows").mkdir()
    source = {
        "type": "filesystem",
        "path": Path(_local(tmp_path / "rows")).as_uri(),
        "storage_options": {"token": "geheim-2", "other": "${TOKEN_HERE}"},
    }
    machine = {
        "cache_shared": (tmp_path / "shared").as_uri(),
        "cache_shared_options": {"token": "geheim-3", "auto_mkdir": True},
    }
    run = train(_config(tmp_path, machine, source), runs=tmp_path / "runs", quiet=True)
    assert "geheim-2" in (run.directory / "config.yaml").read_text(), "the run itself can be resumed"
    (archived,) = (tmp_path / "shared" / "runs").iterdir()
    assert all(b"geheim" not in path.read_bytes() for path in archived.rglob("*") if path.is_file())
    config = yaml.safe_load((archived / "config.yaml").read_text())
    assert config["data"]["source"]["storage_options"] == {"token": "…", "other": "${TOKEN_HERE}"}
    assert config["data"]["target"] == "y"


def test_a_full_temporary_directory_costs_the_archive_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the public configuration cannot be written, the finished run stays as it is, and nothing is raised."""
    config = _config(tmp_path, {"cache_shared": (tmp_path / "shared").as_uri()}, _local(tmp_path))
    run = train(config, runs=tmp_path / "runs", quiet=True)
    (archived,) = (tmp_path / "shared" / "runs").iterdir()
    shutil.rmtree(archived)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    archive_run(run.directory, load_root(config))
    assert list((tmp_path / "shared" / "runs").iterdir()) == []


def test_secrets_come_from_the_environment(tmp_path: Path) -> None:
    """A variable that is not set is told before anything starts, and its value is in no file of the run."""
    machine = {
        "cache_shared": (tmp_path / "shared").as_uri(),
        "cache_shared_options": {"auto_mkdir": "${NOT_SET_HERE}"},
    }
    with pytest.raises(ConfigError, match=r"NOT_SET_HERE must be set, machine\.cache_shared_options"):
        train(_config(tmp_path, machine, _local(tmp_path)), runs=tmp_path, quiet=True)
