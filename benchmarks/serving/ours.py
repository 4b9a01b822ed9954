"""Our side: a package made by training the network for one epoch on numbers with a pattern in them, and the real
`corelane serve` process on it, asked in the Open Inference Protocol.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import run_json
from benchmarks.serving.cases import HIDDEN, NUM_CLASSES, NUM_FEATURES
from benchmarks.serving.endpoint import Endpoint

NAME = "benchmark"
NUM_ROWS = 2000


class Served(NamedTuple):
    """Our package, the ONNX graph in it for the peers, and the class of the example row."""

    package: Path
    graph: Path
    label: int


def make_package(folder: Path, row: Sequence[float]) -> Served:
    """Train and package in a process of its own, so that this one never holds torch."""
    command = [sys.executable, "-m", "benchmarks.serving.ours", str(folder), json.dumps(list(row))]
    made = run_json(command, timeout_s=300)
    return Served(Path(made["package"]), Path(made["graph"]), int(made["label"]))


def endpoint(package: Path, row: Sequence[float], *, grpc_port: int | None = None) -> Endpoint:
    """One worker, everything else as it comes; gRPC too where there is a port for it."""
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, NUM_FEATURES], "data": list(row)}

    def command(port: int) -> list[str]:
        more = [] if grpc_port is None else ["--grpc-port", str(grpc_port)]
        return [sys.executable, "-m", "corelane", "serve", str(package), "--port", str(port), *more]

    return Endpoint(f"/v2/models/{NAME}/infer", json.dumps({"inputs": [tensor]}).encode(), _label, command)


def _label(reply: bytes) -> int:
    outputs = {output["name"]: output["data"] for output in json.loads(reply)["outputs"]}
    return int(outputs["label"][0])


def main(folder: str, row: str) -> None:
    """Make the package and print where it and its graph lie."""
    from corelane import app

    random = np.random.default_rng(0)
    features = random.normal(size=(NUM_ROWS, NUM_FEATURES)).astype(np.float32)
    labels = (features @ random.normal(size=(NUM_FEATURES, NUM_CLASSES))).argmax(axis=1)
    columns = {f"f{index:02}": features[:, index] for index in range(NUM_FEATURES)}
    config = {
        "name": NAME,
        "data": {"target": "label", "task": "classification"},
        # The graph then takes the very numbers that are sent, and peers need no pipeline to give the same answer.
        "pipeline": {"numeric": "none"},
        "model": {"net": "mlp", "hidden": list(HIDDEN)},
        "train": {"epochs": 1},
        "machine": {"cache": str(Path(folder, "cache"))},
    }
    run = app.train(config, data={**columns, "label": labels}, runs=Path(folder, "runs"), quiet=True)
    package = Path(app.package(run.directory, directory=Path(folder, "packages")))
    values = dict(zip(columns, json.loads(row), strict=True))
    (answer,) = app.load(package).predict_rows([values])
    print(
        json.dumps({"package": str(package), "graph": str(package / "graphs" / "fp32.onnx"), "label": answer["label"]})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
