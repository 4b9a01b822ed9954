"""Large requests: our server beside the network alone, in a bare loop on the same cores, the peer `raw-runtime`.

`python -m benchmarks.serving.raw make CASE FOLDER` makes the package, its plan in the cache FOLDER/cache, what the
network gets of one request, and the request's body. `... loop PACKAGE INPUTS` runs the package's graph on one request's
inputs again and again, in every library, on all threads and on streams of one each, and prints the best
`{"requests_per_s"}`.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import run_json
from benchmarks.serving import load
from benchmarks.serving.cases import RAW_CASES, RawCase
from benchmarks.serving.endpoint import Endpoint

LOOP_S = 1.5  # of each way to run the loop; the best one counts
TIMEOUT_S = 900.0


class Made(NamedTuple):
    """The package, the cache with its plan, what its network gets of a request, and the request."""

    package: Path
    cache: Path
    inputs: Path
    body: bytes
    head_bytes: int


def made(case: RawCase, folder: Path) -> Made:
    """Make all of it in a process of its own."""
    told = run_json(
        [sys.executable, "-m", "benchmarks.serving.raw", "make", case.name, str(folder)], timeout_s=TIMEOUT_S
    )
    body = Path(told["body"]).read_bytes()
    return Made(Path(told["package"]), folder / "cache", Path(told["inputs"]), body, told["head_bytes"])


def endpoint(one: Made, workers: str) -> Endpoint:
    """So many workers that run as its plan says."""
    name = one.package.parent.name

    def command(port: int) -> list[str]:
        serve = [sys.executable, "-m", "corelane", "serve", str(one.package), "--port", str(port)]
        return [*serve, "--workers", workers, "--set", f"machine.cache={one.cache}"]

    return Endpoint(f"/v2/models/{name}/infer", one.body, _any_answer, command, _headers(one))


def _headers(one: Made) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(one.head_bytes)}


def _any_answer(reply: bytes) -> int:
    """Answers of 200 are taken as they are."""
    del reply
    return 0


def loop_rate(one: Made) -> float:
    """Requests a second of the network alone."""
    command = [sys.executable, "-m", "benchmarks.serving.raw", "loop", str(one.package), str(one.inputs)]
    return float(run_json(command, timeout_s=TIMEOUT_S)["requests_per_s"])


def served_rate(one: Made, case: RawCase, url: str, duration_s: int) -> load.Load:
    """What wrk sees of our server."""
    return load.run(url, one.body, num_connections=case.num_connections, duration_s=duration_s, headers=_headers(one))


# --- in processes of their own ----------------------------------------------------------------------------------------


def _make(case: RawCase, folder: Path) -> dict[str, Any]:
    from benchmarks.inference import minilm
    from benchmarks.inference.cases import NETS
    from benchmarks.inference.packages import untrained
    from corelane.app.idle_planning import network_inputs, searched_plan
    from corelane.app.planned import serving_plans
    from corelane.core.clock import SystemClock
    from corelane.machine.cpu import Machine
    from corelane.model.package import ModelPackage

    path = minilm.package(folder) if case.net == "minilm" else untrained(NETS[case.net], folder)
    package = ModelPackage.load(path)
    rows = package.holdout()
    assert rows is not None
    inputs = network_inputs(package, rows)
    with serving_plans(folder / "cache") as plans:
        plans.put(searched_plan(package, "latency", inputs, Machine.detect(), SystemClock()))
    raw = _raw_rows(case)
    few = {
        name: np.ascontiguousarray(np.resize(values, (case.num_rows, *values.shape[1:])))
        for name, values in inputs.items()
    }
    np.savez(folder / "inputs.npz", **few)
    head, body = _body(raw)
    (folder / "body").write_bytes(head + body)
    return {
        "package": str(path),
        "inputs": str(folder / "inputs.npz"),
        "body": str(folder / "body"),
        "head_bytes": len(head),
    }


def _raw_rows(case: RawCase) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    if case.net == "minilm":
        tokens = random.integers(1000, 30_000, (case.num_rows, 128))
        return {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    return {"image": random.integers(0, 256, (case.num_rows, 28, 28, 1), dtype=np.uint8)}


def _body(columns: dict[str, np.ndarray[Any, Any]]) -> tuple[bytes, bytes]:
    """The JSON part and the bytes of a request of binary tensors whose answers are bytes too."""
    tensors = [
        {
            "name": name,
            "datatype": values.dtype.name.upper(),
            "shape": list(values.shape),
            "parameters": {"binary_data_size": values.nbytes},
        }
        for name, values in columns.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    return head, b"".join(values.tobytes() for values in columns.values())


def _loop(path: Path, inputs: Path) -> dict[str, float]:
    from corelane.machine.cpu import Machine
    from corelane.model.candidate import Candidate
    from corelane.model.package import ModelPackage
    from corelane.model.runtimes.opening import runtimes_of

    package, machine = ModelPackage.load(path), Machine.detect()
    with np.load(inputs) as stored:
        rows = {name: stored[name] for name in stored.files}
    rates = {}
    for library in runtimes_of("fp32", machine.isa):
        for streams, threads in ((1, machine.thread_budget), (machine.thread_budget, 1)):
            if library == "torch":
                continue
            candidate = Candidate(library, "fp32", threads, streams, len(next(iter(rows.values()))))
            rates[str(candidate)] = _rate(package, candidate, rows)
    best = max(rates, key=rates.__getitem__)
    return {"requests_per_s": rates[best], **rates}


def _rate(package: Any, candidate: Any, rows: Any) -> float:
    with package.predictor(candidate) as predictor:
        predictor.runtime.run(rows)
        end = time.perf_counter() + LOOP_S

        def stream(_: int) -> int:
            num_calls = 0
            while time.perf_counter() < end:
                predictor.runtime.run(rows)
                num_calls += 1
            return num_calls

        start = time.perf_counter()
        with ThreadPoolExecutor(candidate.streams) as pool:
            num_calls = sum(pool.map(stream, range(candidate.streams)))
        return num_calls / (time.perf_counter() - start)


def main(what: str, *arguments: str) -> None:
    """Make or loop, and print."""
    if what == "make":
        print(json.dumps(_make(RAW_CASES[arguments[0]], Path(arguments[1]))))
    else:
        print(json.dumps(_loop(Path(arguments[0]), Path(arguments[1]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
