"""MLServer, which speaks the Open Inference Protocol: no parallel workers, at most 32 rows in 2 ms."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.endpoint import HOST, Endpoint, free_port, tensor_body, tensor_label
from benchmarks.serving.session import with_graph

CASES = ("mlp-json-c32", "mlp-json-c1-p50")
NAME = "benchmark"


def endpoint(python: str, graph: Path, row: Sequence[float]) -> Endpoint:
    """One process, started on a folder with its two files of settings."""

    def command(port: int) -> list[str]:
        beside_packages = graph.parents[4]  # removed with them; a package may hold nothing but its own files
        folder = tempfile.mkdtemp(prefix="mlserver-", dir=beside_packages)
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        settings = {"host": HOST, **ports, "parallel_workers": 0, "debug": False}
        model = {
            "name": NAME,
            "implementation": "benchmarks.serving.services.mlserver.Network",
            "max_batch_size": 32,
            "max_batch_time": 0.002,
        }
        Path(folder, "settings.json").write_text(json.dumps(settings))
        Path(folder, "model-settings.json").write_text(json.dumps(model))
        return with_graph(graph, [str(Path(python).parent / "mlserver"), "start", folder], PYTHONPATH=".")

    return Endpoint(f"/v2/models/{NAME}/infer", tensor_body(row), tensor_label, command)
