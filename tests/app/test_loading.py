"""`corelane load` against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serve.live import serving
from tests.serve.packages import mixed_package, numeric_package


def loaded(*arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "corelane", "load", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_load_is_put_on_a_server_and_told(tmp_path: Path, processes: int) -> None:
    """Made-up tensors of the model's metadata, records of a file; from one process or two."""
    (tmp_path / "records.jsonl").write_text('{"age": 30, "colour": "red", "weight": null}\n' * 3)
    with serving(numeric_package(tmp_path), mixed_package(tmp_path, "mixed")) as server:
        shared = ["--processes", str(processes)]
        report = loaded(server.url, "--model", "m", "--steps", "50:1,100:1", "--shape", "constant", *shared)
        assert (report["requests"], report["statuses"]) == (150, {"200": 150})
        assert report["latency_ms"]["p50"] > 0
        records = ["--records", str(tmp_path / "records.jsonl"), "--rows", "2", "--rate", "50", "--duration", "1"]
        assert set(loaded(server.url, "--model", "mixed", *records, *shared)["statuses"]) == {"200"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "fast"], "--steps must be"),
        (["--shape", "square"], "--shape must be"),
        (["--rate", "0"], "rates and durations above 0"),
        (["--rows", "0"], "must be at least 1"),
        (["--records", "nothing.jsonl"], "--records must be a file"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], words: str) -> None:
    """Before anything is sent."""
    assert words in loaded("http://127.0.0.1:1", "--model", "m", *arguments, code=2)["error"]


def test_a_server_that_is_not_there_is_told() -> None:
    """It may come: the same command can be run again."""
    assert "must be reachable" in loaded("http://127.0.0.1:1", "--model", "m", code=75)["error"]
