"""The other forms of the protocol beside JSON: the same row as bytes and over gRPC, asked of the same server.

A case's peer, `own-json`, is the server's own rate for JSON in the same round. wrk sends bytes as it sends JSON; gRPC
is HTTP/2, which h2load (nghttp2-client) sends: a fixed message on each connection again and again, as wrk does.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.measure import OURS, BenchmarkError, Row, compare, interleave
from benchmarks.serving import load, ours
from benchmarks.serving.cases import NUM_FEATURES, REQUESTS
from benchmarks.serving.endpoint import HOST, free_port, running

OWN_JSON = "own-json"
CASES = ("mlp-binary-c32", "mlp-grpc-c32")
NUM_CONNECTIONS = 32
WARM_UP_S = 1


def measure(
    made: ours.Served, row: Sequence[float], cases: Sequence[str], num_rounds: int, duration_s: int
) -> list[Row]:
    """A row for each of `cases`; one server for all of them in each round."""
    grpc_port = free_port()
    endpoint = ours.endpoint(made.package, row, grpc_port=grpc_port)

    def all_forms(_engine: str) -> Mapping[str, float]:
        with running(endpoint, made.label) as url:
            rates = {OWN_JSON: _over_http(url, endpoint.body, endpoint.headers, duration_s)}
            if "mlp-binary-c32" in cases:
                head, content = _binary(row)
                headers = {
                    "Inference-Header-Content-Length": str(len(head)),
                    "Content-Type": "application/octet-stream",
                }
                rates["mlp-binary-c32"] = _over_http(url, head + content, headers, duration_s)
            if "mlp-grpc-c32" in cases:
                rates["mlp-grpc-c32"] = _over_grpc(grpc_port, row, made.label, duration_s)
        return rates

    found = interleave([OURS], num_rounds, all_forms)[OURS]
    medians = {OURS: found, OWN_JSON: dict.fromkeys(cases, found[OWN_JSON])}
    return compare(medians, dict.fromkeys(cases, REQUESTS))


def _over_http(url: str, body: bytes, headers: Mapping[str, str], duration_s: int) -> float:
    load.run(url, body, num_connections=NUM_CONNECTIONS, duration_s=WARM_UP_S, headers=headers)
    seen = load.run(url, body, num_connections=NUM_CONNECTIONS, duration_s=duration_s, headers=headers)
    if seen.num_errors:
        raise BenchmarkError(f"every request must be answered with 200, got {seen.num_errors} errors")
    return seen.requests_per_s


def _binary(row: Sequence[float]) -> tuple[bytes, bytes]:
    """The JSON part and the bytes of a request whose answers are bytes too."""
    content = np.asarray(row, np.float32).tobytes()
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, NUM_FEATURES], "parameters": parameters}
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode(), content


def _over_grpc(port: int, row: Sequence[float], label: int, duration_s: int) -> float:
    """Requests a second over gRPC, of which the first is looked at: h2load sees no status in trailers."""
    from corelane.serve.messages import SERVICE

    h2load = shutil.which("h2load")
    if h2load is None:
        raise BenchmarkError("h2load must be installed; apt-get install nghttp2-client")
    message = _message(row)
    _check_answer(port, message, label)
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(message).to_bytes(4, "big") + message)  # a frame of gRPC: not packed, its length
        body.flush()
        command = [h2load, "-t1", f"-c{NUM_CONNECTIONS}", "-m1", f"-D{duration_s}", f"--warm-up-time={WARM_UP_S}"]
        command += ["-d", body.name, "-H", "content-type: application/grpc", "-H", "te: trailers"]
        command.append(f"http://{HOST}:{port}/{SERVICE}/ModelInfer")
        done = subprocess.run(command, capture_output=True, text=True, timeout=duration_s + 60, check=False)
    rate = re.search(r"finished in [^,]+, ([0-9.]+) req/s", done.stdout)
    good = re.search(r"requests: .* (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    if done.returncode != 0 or rate is None or good is None or any(map(int, good.groups())):
        raise BenchmarkError(f"h2load ended with {done.returncode}: {(done.stdout + done.stderr)[-1000:]}")
    return float(rate.group(1))


def _message(row: Sequence[float]) -> bytes:
    from corelane.serve.messages import MESSAGES

    tensor = MESSAGES["InferInputTensor"](name="features", datatype="FP32", shape=[1, NUM_FEATURES])
    content = np.asarray(row, np.float32).tobytes()
    request = MESSAGES["ModelInferRequest"](model_name=ours.NAME, inputs=[tensor], raw_input_contents=[content])
    return bytes(request.SerializeToString())


def _check_answer(port: int, message: bytes, label: int) -> None:
    import grpc

    from corelane.serve.messages import MESSAGES, SERVICE

    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        reply = MESSAGES["ModelInferResponse"].FromString(
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(message, timeout=10)
        )
    names = [output.name for output in reply.outputs]
    got = int(np.frombuffer(reply.raw_output_contents[names.index("label")], np.int64)[0])
    if got != label:
        raise BenchmarkError(f"the answer over gRPC must be class {label}, got {got}")
