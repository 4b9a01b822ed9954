"""The whole way through the commands a user types, on penguins: init, doctor, train, evaluate, predict, serve, ask."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest


def _corelane(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "corelane", *arguments, "--json"],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the penguins have been trained and packaged."""
    folder = tmp_path_factory.mktemp("whole")
    _corelane(folder, "init", "penguins", "--template", "penguins")
    trained = _corelane(folder, "train", "penguins/config.yaml")
    assert trained["metrics"]["test_accuracy"] > 0.9
    assert (folder / trained["run"] / "report.html").stat().st_size > 10_000
    assert (folder / trained["package"] / "package.json").is_file()
    return folder


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    """A running server of the package, stopped with SIGTERM at the end."""
    argv = [sys.executable, "-m", "corelane", "serve", "packages/penguins", "--port", "0", "--json"]
    with subprocess.Popen(argv, cwd=project, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"]
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=30) == 0


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
    return answer


def _data(project: Path) -> str:
    return str(next((project / "penguins" / "data").glob("*.csv")).relative_to(project))


def test_a_finished_run_is_left_alone(project: Path) -> None:
    """`--resume` of a finished run tells its result and its package again; nothing is trained or published."""
    again = _corelane(project, "train", "penguins/config.yaml", "--resume")
    assert again["run"].endswith("-001")
    assert again["package"].endswith("penguins/1")


def test_a_resumed_run_keeps_its_configuration(project: Path) -> None:
    """An override that would change the run is refused by name, not ignored."""
    refused = _corelane(project, "train", "penguins/config.yaml", "--resume", "--set", "train.epochs=3", code=2)
    assert "train.epochs" in refused["error"]


def test_evaluate_scores_the_package(project: Path) -> None:
    """Offline evaluation on labelled rows."""
    scores = _corelane(project, "evaluate", "packages/penguins/1", "--input", _data(project))
    assert scores["accuracy"] > 0.9
    assert scores["rows"] + scores["rejected"] == 344


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_predict_answers_every_row_in_order(project: Path, ending: str) -> None:
    """One answer a row, whatever the file format."""
    output = f"answers.{ending}"
    done = _corelane(project, "predict", "packages/penguins", "--input", _data(project), "--output", output)
    assert done["rows"] == 344
    if ending == "parquet":
        assert pq.read_table(project / output)["row"].to_pylist() == list(range(344))
    else:
        assert len((project / output).read_text().splitlines()) == 344 + (ending == "csv")


def test_predict_fills_a_table_and_never_one_that_is_there(project: Path) -> None:
    """The answers of a file, in a new table of a database; a second time they are refused."""
    arguments = ["predict", "packages/penguins", "--input", _data(project), "--output"]
    _corelane(project, *arguments, "table.parquet")
    done = _corelane(project, *arguments, "sqlite:///answers.db#answers")
    assert done["rows"] == 344
    connection = sqlite3.connect(project / "answers.db")
    rows = connection.execute("SELECT * FROM answers").fetchall()
    connection.close()
    assert rows == [tuple(row.values()) for row in pq.read_table(project / "table.parquet").to_pylist()]
    refused = _corelane(project, *arguments, "sqlite:///answers.db#answers", code=2)
    assert "must be a new table" in refused["error"]


@pytest.mark.parametrize("output", ["itself", "folder.csv"])
def test_predict_never_overwrites_its_input_or_a_folder(project: Path, output: str) -> None:
    """An output that is the input, or a folder, is refused before anything is written."""
    data = project / "again.csv"
    data.write_bytes((project / _data(project)).read_bytes())
    (project / "folder.csv").mkdir(exist_ok=True)
    target = "./again.csv" if output == "itself" else output
    refused = _corelane(project, "predict", "packages/penguins", "--input", "again.csv", "--output", target, code=2)
    assert refused["code"] == "config_invalid"
    assert data.read_bytes() == (project / _data(project)).read_bytes()


def test_no_library_reports_to_its_maker(project: Path) -> None:
    """What runs a graph leaves no files of its own in the user's cache folder."""
    assert {path.name for path in (project / "cache").iterdir()} == {"corelane"}


def test_the_served_answer_is_the_offline_one(project: Path, url: str) -> None:
    """A row through the typed API and offline gives one answer, a missing value included."""
    answers = project / "served.jsonl"
    _corelane(project, "predict", "packages/penguins", "--input", _data(project), "--output", str(answers))
    offline = json.loads(answers.read_text().splitlines()[3])
    package = json.loads((project / "packages/penguins/1/package.json").read_text())
    names = [tensor["name"] for tensor in package["signature"]["inputs"]]
    header, *lines = (project / _data(project)).read_text().splitlines()
    cells = dict(zip(header.split(","), lines[3].split(","), strict=True))
    datatypes = {tensor["name"]: tensor["datatype"] for tensor in package["signature"]["inputs"]}
    row = {
        name: None if cells[name] in ("", "NA") else float(cells[name]) if datatypes[name] == "FP64" else cells[name]
        for name in names
    }
    assert None in row.values()
    served = _post(f"{url}/v1/models/penguins:predict", {"rows": [row]})["predictions"][0]
    assert served["label"] == offline["label"]
    for label, probability in served["probabilities"].items():
        assert abs(probability - offline[f"probability.{label}"]) < 1e-5


def test_the_doctor_goes_the_whole_way(project: Path) -> None:
    """The dry run opens the data, trains a step, saves, restores and infers."""
    report = _corelane(project, "doctor", "penguins/config.yaml")
    assert report["healthy"]
    assert next(iter(report["checks"])) == "data opens"
    assert list(report["checks"])[-1] == "inference"


def test_a_port_in_use_is_an_error(project: Path, url: str) -> None:
    """A second server on the same port says so, and the first goes on."""
    port = url.rpartition(":")[2]
    refused = _corelane(project, "serve", "packages/penguins", "--port", port, code=2)
    assert refused["code"] == "port_in_use"
    with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=30) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("file", ["graphs/fp32.onnx", "pipeline.json", "weights.safetensors", "manifest.json"])
@pytest.mark.parametrize("fault", ["flipped", "cut"])
def test_a_damaged_package_is_not_served(project: Path, tmp_path: Path, file: str, fault: str) -> None:
    """One byte flipped or the end cut off, in any file: the package is refused and the file is named."""
    source = project / "packages/penguins/1"
    for path in source.rglob("*"):
        if path.is_file():
            target = tmp_path / "package" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    broken = tmp_path / "package" / file
    content = bytearray(broken.read_bytes())
    if fault == "flipped":
        content[len(content) // 2] ^= 1
    else:
        del content[-10:]
    broken.write_bytes(content)
    refused = _corelane(project, "serve", str(tmp_path / "package"), "--port", "0", code=2)
    assert refused["code"] == "bundle_broken"
    assert file in refused["error"]


@pytest.mark.parametrize("delay_s", [0.3, 0.5, 1.5])
def test_a_stop_at_any_moment_is_told_and_resumable(project: Path, delay_s: float) -> None:
    """SIGTERM while libraries load, or soon after: no traceback, and the exit code of what can be run again."""
    argv = [sys.executable, "-m", "corelane", "train", "penguins/config.yaml", "--runs", f"stopped-{delay_s}"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(project / "cache")}
    with subprocess.Popen(argv, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=delay_s)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=60)[1]
    assert "Traceback" not in told
    # Before Python has read the command there is nobody to tell, and nothing to resume.
    assert process.returncode == 75 or (process.returncode == -signal.SIGTERM and not told)
