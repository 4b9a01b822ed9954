"""The whole way on real data, through the commands a user would type: init, train, package, serve, ask, compare.

Prints one table at the end and fails when a served answer differs from the offline one. Everything it makes lies in
`demo/<recipe>/`. Called by `scripts/demo`.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from corelane.app.package_paths import resolve_package
from corelane.app.runs import find_run, is_finished, open_run_data, read_result
from corelane.app.serving import child_server, oip_request
from corelane.model.package import ModelPackage
from corelane.model.skew import Tolerance, compare, raw_columns
from corelane.recipes.catalogue import CONFIG_NAME
from corelane.serve.schemas import json_values

ROOT = Path(__file__).resolve().parent.parent
NUM_ROWS = 100  # rows asked through each protocol
NUM_TIMED = 300  # single-row requests behind the median


def run(*arguments: str | Path) -> None:
    """One command, shown before it runs; its failure ends the demo."""
    words = [str(argument) for argument in arguments]
    print(f"$ corelane {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "corelane", *words], check=True)


class Client:
    """One keep-alive connection to the demo's server."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        content = json.loads(reply.read())
        if reply.status != 200:
            sys.exit(f"demo: {path} answered {reply.status}: {content}")
        return content

    def close(self) -> None:
        self._connection.close()


def ask_both(client: Client, package: ModelPackage, rows: pa.RecordBatch) -> None:
    """Both protocols must give the offline answers."""
    with package.predictor() as predictor:
        expected = predictor.predict_table(rows)
    tolerance = Tolerance.fp32(package.pipeline.target)
    reply = client.post(f"/v2/models/{package.name}/infer", oip_request(package, rows))
    served = {o["name"]: np.asarray(o["data"]).reshape(o["shape"]) for o in reply["outputs"]}
    compare(expected, served, tolerance)
    reply = client.post(f"/v1/models/{package.name}:predict", {"rows": records(rows)})
    compare(expected, from_records(reply["predictions"], list(expected)), tolerance)


def records(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Checked raw rows as plain JSON records."""
    columns = {name: json_values(values) for name, values in raw_columns(rows).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def from_records(predictions: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """The typed API's answers as arrays by output name."""
    found = {}
    for name in names:
        values = [prediction[name] for prediction in predictions]
        found[name] = np.array([list(v.values()) if isinstance(v, dict) else v for v in values])
    return found


def median_latency_ms(client: Client, package: ModelPackage, rows: pa.RecordBatch) -> float:
    """Median of single-row requests on one connection, after a warm-up."""
    bodies = [oip_request(package, rows.slice(index, 1)) for index in range(min(rows.num_rows, 50))]
    path = f"/v2/models/{package.name}/infer"
    elapsed_s = []
    for index in range(NUM_TIMED):
        started_s = time.perf_counter()
        client.post(path, bodies[index % len(bodies)])
        elapsed_s.append(time.perf_counter() - started_s)
    return statistics.median(elapsed_s[NUM_TIMED // 10 :]) * 1000


def train(recipe: str, folder: Path) -> Path:
    """Make the project where there is none, train it, and return the finished run."""
    if not (folder / CONFIG_NAME).exists():
        run("init", folder, "--template", recipe)
    run("train", folder / CONFIG_NAME, "--runs", folder / "runs", "--packages", folder / "packages")
    directory = find_run(folder / "runs", recipe)
    if directory is None or not is_finished(directory):
        sys.exit(f"demo: {folder / 'runs'} holds no finished run")
    return directory


def main() -> None:
    recipe = sys.argv[1] if len(sys.argv) > 1 else "digits"
    folder = ROOT / "demo" / recipe
    directory = train(recipe, folder)
    result = read_result(directory)
    path = resolve_package(folder / "packages" / recipe)
    package = ModelPackage.load(path)
    gate = open_run_data(directory).gate.select(list(package.pipeline.schema.names))
    rows = gate.slice(0, NUM_ROWS).combine_chunks().to_batches()[0]
    print(f"$ corelane serve {path} --port 0", flush=True)
    with child_server(path) as url:
        client = Client(url)
        ask_both(client, package, rows)
        latency_ms = median_latency_ms(client, package, rows)
        client.close()
    table = Table(title=f"{recipe}: from raw data to a served prediction", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in result["metrics"].items():
        table.add_row(name.replace("_", " "), f"{value:.4f}")
    table.add_row("training", f"{result['examples_per_s']:,.0f} examples/s")
    table.add_row("served, one row", f"{latency_ms:.2f} ms median")
    table.add_row("served = offline", f"{rows.num_rows} rows through each of two protocols")
    table.add_row("report", str(directory / "report.html"))
    table.add_row("package", str(path))
    Console().print(table)


if __name__ == "__main__":
    main()
