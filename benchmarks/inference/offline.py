"""`python -m benchmarks.inference.offline ENGINE PACKAGE INPUT OUTPUT`: a Parquet file scored into another.

`corelane` is `corelane.app.predict` as a user calls it. `hand-script` is what one would write for the same: Arrow
batches, the fitted scaling in NumPy, ONNX Runtime on a thread for each core, and Arrow's Parquet writer, reading,
scoring and writing side by side. Prints `{"rows_per_s", "peak_bytes"}`; imports are not timed.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.inference.cases import NUM_FEATURES
from benchmarks.measure import OURS

CHUNK_ROWS = 16_384
CALL_ROWS = 1024


def main(engine: str, package: str, data: str, output: str) -> None:
    """Score and print."""
    score = _ours if engine == OURS else _hand_script
    num_rows, elapsed_s = score(Path(package), Path(data), Path(output))
    print(json.dumps({"rows_per_s": num_rows / elapsed_s, "peak_bytes": _peak_bytes()}))


def _peak_bytes() -> int:
    """The most memory that this program had; `getrusage` counts what its parent had when it was forked."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def write_rows(path: Path, num_rows: int) -> None:
    """A Parquet file of `num_rows` rows of 32 float32 columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    schema = pa.schema([(f"x{index}", pa.float32()) for index in range(NUM_FEATURES)])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, num_rows, 100_000):
            values = random.normal(size=(NUM_FEATURES, min(100_000, num_rows - start))).astype(np.float32)
            writer.write_table(pa.table(dict(zip(schema.names, values, strict=True))))


def _ours(package: Path, data: Path, output: Path) -> tuple[int, float]:
    from corelane.app import load, predict
    from corelane.data.sources.filesystem import source as _source  # noqa: F401 - imported when it is first needed

    load(package).close()  # the runtime's import
    start = time.perf_counter()
    told = predict(package, str(data), output)
    return told["rows"], time.perf_counter() - start


def _hand_script(package: Path, data: Path, output: Path) -> tuple[int, float]:
    import os

    import onnxruntime
    import pyarrow as pa
    import pyarrow.parquet as pq

    stages = json.loads((package / "pipeline.json").read_text())
    mean, scale = _scaling(stages)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(package / "graphs/fp32.onnx"), options)
    labels = np.arange(10)
    start = time.perf_counter()

    def score(first: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        values = np.empty((batch.num_rows, NUM_FEATURES), np.float32)
        for index in range(NUM_FEATURES):
            values[:, index] = batch.column(f"x{index}").to_numpy()
        values -= mean
        values *= scale
        logits = np.concatenate(
            [session.run(None, {"features": values[at : at + CALL_ROWS]})[0] for at in range(0, len(values), CALL_ROWS)]
        )
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits, out=logits)
        chances /= chances.sum(axis=1, keepdims=True)
        columns = {"row": np.arange(first, first + len(values)), "label": labels[chances.argmax(axis=1)]}
        columns |= {f"probability.{label}": np.ascontiguousarray(chances[:, label]) for label in range(10)}
        return pa.RecordBatch.from_pydict(columns)

    num_rows = 0
    writer = None
    pending: deque = deque()  # type: ignore[type-arg]
    num_threads = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(num_threads) as pool:
        for batch in pq.ParquetFile(data).iter_batches(CHUNK_ROWS):
            pending.append(pool.submit(score, num_rows, batch))
            num_rows += batch.num_rows
            while len(pending) > 2 * num_threads:
                writer = _write(writer, pending.popleft().result(), output)
        while pending:
            writer = _write(writer, pending.popleft().result(), output)
    assert writer is not None
    writer.close()
    return num_rows, time.perf_counter() - start


def _write(writer, rows, output):  # type: ignore[no-untyped-def]
    import pyarrow.parquet as pq

    writer = writer or pq.ParquetWriter(output, rows.schema, use_dictionary=["label"])
    writer.write_batch(rows)
    return writer


def _scaling(pipeline: dict) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Mean and 1 / deviation of each column, as the package's pipeline has them."""
    (stage,) = pipeline["outputs"][0]["stages"]
    return np.array(stage["center"], np.float32), (1.0 / np.array(stage["scale"])).astype(np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
