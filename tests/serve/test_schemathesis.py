"""A fuzzer that reads the server's own OpenAPI document: no 5xx, and no answer that the document does not have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.live import serving
from tests.serve.packages import image_package, mixed_package

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]
EXAMPLES = 80  # of each operation and phase; all of it takes about half a minute
MOST_S = 240
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", "504"]
"""
"""A request that may take a millisecond, as its own header says, is answered 504 by contract."""


@pytest.mark.timeout(300)
def test_the_document_holds_for_whatever_is_sent(tmp_path: Path) -> None:
    """Examples, systematic and random requests to every path, from a fixed seed."""
    with serving(mixed_package(tmp_path), image_package(tmp_path), workers=1) as server:
        (tmp_path / "schemathesis.toml").write_text(SETTINGS)
        argv = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"]
        argv += ["run", f"{server.url}/openapi.json", "--seed", "1"]
        argv += ["--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--workers", "1"]
        argv += ["--phases", "examples,coverage,fuzzing", "--no-color", "--max-failures", "20"]
        environment = {**os.environ, "COLUMNS": "160", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=MOST_S, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert server.ask("GET", "/v2/health/ready").status == 200
