"""KServe's SDK, unmodified and in an environment of its own, against a live server: REST and gRPC, JSON and bytes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.environments import python_of
from tests.serve.live import serving
from tests.serve.packages import numeric_package

ROWS = [1.0, 2.0, 3.0, 4.0, 0.5, -1.0, 0.0, 2.0]
CHILD = Path(__file__).with_name("kserve_child.py")


@pytest.mark.needs("kserve")
def test_its_clients_get_the_answers_of_plain_http(tmp_path: Path) -> None:
    """Health, readiness and inference by both of its clients, in every form of tensor that they send."""
    with serving(numeric_package(tmp_path), grpc_port=0) as server:
        data = {"name": "features", "shape": [2, 4], "datatype": "FP64", "data": ROWS}
        outputs = server.ask("POST", "/v2/models/m/infer", {"inputs": [data]}).json["outputs"]
        argv = [python_of("kserve"), str(CHILD), server.url, f"127.0.0.1:{server.grpc_port}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    for question in ("live", "ready", "model"):
        assert answers[f"rest {question}"] is True
        assert answers[f"grpc {question}"] is True
    for form in ("rest json", "rest bytes", "grpc raw", "grpc contents"):
        assert answers[form]["id"] == "7"
        for output in outputs:
            np.testing.assert_allclose(answers[form][output["name"]], output["data"], rtol=1e-6)
