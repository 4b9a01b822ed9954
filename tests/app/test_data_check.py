"""`corelane data check`: what it finds in real files, how it ends, and the profile that it shares with a training."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from corelane.app import train
from corelane.app.catalogue import show_run
from corelane.app.data_check import check
from corelane.app.data_check_text import check_text
from corelane.cli import cli
from corelane.core.errors import ConfigError, StateError
from corelane.data.dataset_profile import DataProfile
from corelane.recipes.catalogue import CONFIG_NAME, find_recipe
from tests.faults.http_server import Asked, Content, FaultServer, reply


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept outside of the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def table(num_rows: int = 400, seed: int = 0, mean: float = 0.0) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "x": random.normal(mean, size=num_rows),
            "colour": np.array(["red", "green", "blue"])[random.integers(0, 3, num_rows)],
            "y": np.array(["yes", "no"])[random.integers(0, 2, num_rows)],
        }
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A good Parquet file."""
    pq.write_table(table(), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def invoked(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["data", "check", *map(str, arguments)])
    return result.exit_code, result.output


HOSTILE = (
    b"\xef\xbb\xbfid,age,city,y\r\n"
    b"1,20,Berlin,yes\r\n"
    b"2,abc,Berlin,no\r\n"
    b"3,20,Berlin\r\n"
    b"4,NaN,Paris,yes\r\n"
    b"5,1e400,Paris,no\r\n"
    b"6,21,Ber\0lin,yes\r\n"
    b"1,22,Rom,no\r\n"
    b"8,23,Rom,\r\n"
    b"9,24,\x1b[31mRom,no\r\n" + b"".join(b"%d,30,Rom,yes\r\n" % number for number in range(10, 60))
)


def test_a_file_with_bad_rows(tmp_path: Path) -> None:
    """Each sort of bad row is told with its row number, nothing steers a terminal; exit code 2 where it is too much."""
    (tmp_path / "bad.csv").write_bytes(HOSTILE)
    unique = 'data.columns={"id": {"unique": true}}'
    code, output = invoked(tmp_path / "bad.csv", "--target", "y", "--set", unique)
    assert code == 2
    for words in ("not_a_number", "unreadable_row", "not_finite", "duplicate_value", "missing"):
        assert words in output
    assert "problem: at most 0.05 of the rows must be refused (data.max_rejected), got 5 of 59" in output
    assert "\x1b" not in output
    assert "\0" not in output
    answer = check(str(tmp_path / "bad.csv"), [unique, 'data.max_rejected="10 %"'], target="y")
    assert answer["usable"]
    found = {fault["code"]: (fault["column"], fault["row_numbers"]) for fault in answer["faults"]}
    assert found == {
        "not_a_number": ("age", [2]),
        "unreadable_row": ("", [3]),
        "not_finite": ("age", [5]),
        "duplicate_value": ("id", [7]),
        "missing": ("y", [8]),
    }


def test_a_recipe(tmp_path: Path) -> None:
    """A configuration is checked under what it declares, with its own target and relative paths."""
    code, output = invoked(find_recipe("penguins").folder / CONFIG_NAME, "--json")
    answer = json.loads(output)
    assert code == 0
    assert (answer["target"], answer["task"], answer["num_rows"], answer["usable"]) == (
        "species",
        "classification",
        344,
        True,
    )
    assert [column["name"] for column in answer["columns"]][-1] == "species"


def test_without_a_target(rows: Path) -> None:
    """All columns are features, and nothing is asked of them but to be readable."""
    answer = check(str(rows))
    assert (answer["target"], answer["task"], answer["num_columns"], answer["usable"]) == (None, None, 3, True)
    assert check(str(rows), ["data.target=y"])["target"] == "y"


def test_nothing_to_train_on(tmp_path: Path) -> None:
    """One class, a column without values, a header alone: the exit code is 2 and the reason is told."""
    (tmp_path / "one.csv").write_text("x,empty,y\n" + "1,,a\n2,,a\n" * 10)
    code, output = invoked(tmp_path / "one.csv", "--target", "y")
    assert code == 2
    assert "problem: the target y must have at least two different labels, got only 'a'" in output
    assert "problem: empty must have at least one value" in output
    assert "usable: no" in output
    (tmp_path / "header.csv").write_text("x,y\n")
    code, output = invoked(tmp_path / "header.csv", "--target", "y")
    assert code == 2
    assert "at least one row, got none" in output


def test_drift_from_a_saved_profile(tmp_path: Path, rows: Path) -> None:
    """The same rows have not moved; others have, column by column; a column that is new or gone is told."""
    saved = tmp_path / "profile.json"
    assert check(str(rows), target="y", save=saved)["drift"] is None
    assert {one["verdict"] for one in check(str(rows), target="y", against=saved)["drift"]} == {"stable"}
    moved = table(seed=1, mean=2.0).drop_columns("colour").append_column("extra", pa.array([1.0] * 400))
    pq.write_table(moved, tmp_path / "moved.parquet")
    code, output = invoked(tmp_path / "moved.parquet", "--target", "y", "--against", saved, "--json")
    assert code == 0
    verdicts = {one["name"]: one["verdict"] for one in json.loads(output)["drift"]}
    assert verdicts == {"x": "changed", "colour": "gone", "y": "stable", "extra": "new"}
    assert "drift from" in invoked(tmp_path / "moved.parquet", "--against", saved)[1]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[" * 100_000, b'{"version": 99}', b"{}", b'"\xff"'])
def test_what_is_no_profile_is_refused(tmp_path: Path, rows: Path, content: bytes) -> None:
    """Any file may be named by mistake."""
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises((ConfigError, StateError)):
        check(str(rows), against=tmp_path / "other.json")
    with pytest.raises(ConfigError, match="--against must be a profile"):
        check(str(rows), against=tmp_path / "absent.json")


def test_a_training_keeps_the_profile_of_its_training_rows(tmp_path: Path, rows: Path) -> None:
    """The profile lies in the run's data, counts the training rows, can be compared with; the report has concerns."""
    labels = table().column("y").to_pylist()
    labels[:3] = ["rare"] * 3
    data = table().set_column(2, "y", pa.array(labels)).append_column("constant", pa.array(["c"] * 400))
    config = {
        "name": "kept",
        "data": {"target": "y", "split": {"test": 0.0, "validation": 0.1}},
        "train": {"epochs": 1},
        "machine": {"cache": str(tmp_path / "cache"), "threads": 1},
    }
    run = train(config, data=data, runs=tmp_path / "runs", quiet=True)
    path = run.directory / "data" / "profile.json"
    profile = DataProfile.from_json(json.loads(path.read_bytes()))
    target = profile.column("y")
    assert target is not None
    assert profile.num_rows == target.num_rows == sum(count for _, count in target.top)
    assert 300 < profile.num_rows < 400
    drift = {one["name"]: one["verdict"] for one in check(str(rows), target="y", against=path)["drift"]}
    assert drift == {"x": "stable", "colour": "stable", "y": "stable", "constant": "gone"}
    assert DataProfile.from_json(show_run(str(run.directory))["data"]["profile"]) == profile
    report = (run.directory / "report.html").read_text()
    assert "constant is always" in report
    assert "the label &#39;rare&#39; of y has" in report
    log = "".join(file.read_text() for file in (run.directory / "logs").glob("*.jsonl"))
    assert '"concern":"rare_label"' in log
    assert '"concern":"constant"' in log


def test_files_that_cannot_be_written(tmp_path: Path, rows: Path) -> None:
    """A folder is refused before anything is read; a file in the way of a folder, in words; folders are made."""
    with pytest.raises(ConfigError, match="must name files, got the folder"):
        check("absent.csv", save=tmp_path)
    with pytest.raises(ConfigError, match="must be a directory that can be written"):
        check(str(rows), page=rows / "page.html")
    check(str(rows), save=tmp_path / "new" / "profile.json")
    assert (tmp_path / "new" / "profile.json").is_file()


def test_secrets_of_a_source_are_not_shown(tmp_path: Path) -> None:
    """What a URL carries to get in is in no answer, no text and on no page."""
    with FaultServer() as server:
        server.routes["/rows.csv"] = Content(b"x,y\n1,a\n2,b\n")
        overrides = ["data.source.allow_http=true", "data.source.allow_private=[127.0.0.1]"]
        answer = check(f"{server.url}/rows.csv?token=hush", overrides, page=tmp_path / "page.html")
    assert answer["num_rows"] == 2
    assert "hush" not in json.dumps(answer) + check_text(answer) + (tmp_path / "page.html").read_text()


def test_it_can_be_stopped_while_it_waits_for_a_download() -> None:
    """Ctrl-C ends it at once, with the code of what can be run again, and not when the server says the rest."""
    is_sending, is_stopped = threading.Event(), threading.Event()

    def stall(asked: Asked, connection: socket.socket) -> None:
        reply(b"x,y\n1,a\n", length=1 << 20)(asked, connection)
        is_sending.set()
        is_stopped.wait()

    with FaultServer() as server:
        server.routes["/rows.csv"] = stall
        allowed = ["--set", "data.source.allow_http=true", "--set", "data.source.allow_private=[127.0.0.1]"]
        command = [sys.executable, "-m", "corelane", "data", "check", f"{server.url}/rows.csv", *allowed]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert is_sending.wait(60)
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=20)
            finally:
                is_stopped.set()
                process.kill()
    assert (process.returncode, told) == (75, "corelane: stopped before the end; run the same command again\n")


def test_it_starts_without_torch(rows: Path) -> None:
    """Looking at data loads nothing that trains."""
    code = f"import sys\nfrom corelane.app.data_check import check\ncheck({str(rows)!r})\nprint('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def numbers_of(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return next(column["numbers"] for column in answer["columns"] if column["name"] == name)


def test_the_answer_does_not_depend_on_the_source(tmp_path: Path, rows: Path) -> None:
    """The same rows from CSV and from Parquet are described by the same numbers."""
    pyarrow.csv.write_csv(pq.read_table(rows), tmp_path / "rows.csv")
    one, other = check(str(rows), target="y"), check(str(tmp_path / "rows.csv"), target="y")
    assert numbers_of(one, "x") == numbers_of(other, "x")
    assert one["columns"] == other["columns"]
