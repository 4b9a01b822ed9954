"""`model.runtimes.base`: what the protocol promises, held by every runtime."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from corelane.core.errors import BundleError, NotReadyError
from corelane.core.types import FloatArray
from corelane.data.pipeline import TensorSpec
from corelane.model.candidate import Candidate
from corelane.model.config import ModelConfig
from corelane.model.export import export_graph, weights_of
from corelane.model.nets.build import build, describe
from corelane.model.runtimes.base import LOGITS, Runtime
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.opening import open_runtime, open_weights
from corelane.model.runtimes.torch import TorchRuntime

INPUTS = {"image": TensorSpec("float32", (1, 8, 8))}
CONFIG = ModelConfig(net="cnn", channels=[4, 8], batch_norm=True, dropout=0.5)
NET = build(CONFIG, INPUTS, 3, seed=0)

Maker = Callable[[Path, int], Runtime]


@cache
def graph() -> bytes:
    return export_graph(NET, INPUTS)


def graph_file(folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(graph())
    return path


def onnx_runtime(folder: Path, num_threads: int) -> Runtime:
    return open_runtime(read_graph(graph_file(folder)), Candidate("onnxruntime", "fp32", num_threads))


def onnx_sessions(folder: Path, num_threads: int) -> Runtime:
    return open_runtime(read_graph(graph_file(folder)), Candidate("onnxruntime", "fp32", num_threads, streams=3))


def openvino_runtime(folder: Path, num_threads: int) -> Runtime:
    return open_runtime(read_graph(graph_file(folder)), Candidate("openvino", "fp32", num_threads, streams=2))


def torch_runtime(folder: Path, num_threads: int) -> Runtime:
    return TorchRuntime(NET, num_threads=num_threads)


@cache
def compiled(num_threads: int) -> Runtime:
    """Kept by the caller's tests: compiling takes seconds."""
    return open_weights(
        describe(CONFIG, NET, INPUTS, 3), weights_of(NET), Candidate("torch", "fp32", num_threads, batch=33)
    )


class Kept:
    """The compiled runtime with a `close` of its own for every test."""

    def __init__(self, runtime: Runtime) -> None:
        self.run = runtime.run

    def close(self) -> None:
        pass


def compiled_runtime(folder: Path, num_threads: int) -> Runtime:
    return Kept(compiled(num_threads))


MAKERS = [onnx_runtime, onnx_sessions, openvino_runtime, torch_runtime, compiled_runtime]
every_runtime = pytest.mark.parametrize("make", MAKERS)


def images(num_rows: int) -> FloatArray:
    return np.random.default_rng(num_rows).normal(size=(num_rows, 1, 8, 8)).astype(np.float32)


def expected(x: FloatArray) -> FloatArray:
    NET.eval()
    with torch.no_grad():
        logits: FloatArray = NET(torch.from_numpy(x)).numpy()
    return logits


@every_runtime
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("num_rows", [0, 1, 2, 33])
def test_logits_for_any_number_of_rows(make: Maker, num_threads: int, num_rows: int, tmp_path: Path) -> None:
    """float32 [n, num_outputs], equal to the module in evaluation mode, no row included."""
    runtime = make(tmp_path, num_threads)
    x = images(num_rows)
    logits = runtime.run({"image": x})[LOGITS]
    assert (logits.dtype, logits.shape) == (np.float32, (num_rows, 3))
    np.testing.assert_allclose(logits, expected(x), rtol=1e-4, atol=1e-5)
    runtime.close()


@every_runtime
def test_several_threads_may_run_at_once(make: Maker, tmp_path: Path) -> None:
    """Calls from four threads get each its own answer, which later calls leave alone."""
    runtime = make(tmp_path, 1)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: runtime.run({"image": images(n)})[LOGITS], range(1, 21)))
    for num_rows, logits in enumerate(answers, start=1):
        np.testing.assert_allclose(logits, expected(images(num_rows)), rtol=1e-4, atol=1e-5)
    runtime.close()


@every_runtime
def test_read_only_arrays_are_taken(make: Maker, tmp_path: Path) -> None:
    """Prepared arrays are read-only memory maps; every runtime takes them and leaves them as they are."""
    runtime = make(tmp_path, 1)
    x = images(3)
    x.setflags(write=False)
    np.testing.assert_allclose(runtime.run({"image": x})[LOGITS], expected(x.copy()), rtol=1e-4, atol=1e-5)
    runtime.close()


@every_runtime
@pytest.mark.parametrize("shape", [(2, 1, 8, 13), (2, 64), (2, 3, 8, 8)])
def test_a_shape_that_does_not_fit_is_a_broken_package(make: Maker, shape: tuple[int, ...], tmp_path: Path) -> None:
    """The pipeline makes the arrays, so one that does not fit the network means that the package is broken."""
    runtime = make(tmp_path, 1)
    with pytest.raises(BundleError, match=r"inputs must fit .*package the run again"):
        runtime.run({"image": np.zeros(shape, dtype=np.float32)})
    x = images(2)
    np.testing.assert_allclose(runtime.run({"image": x})[LOGITS], expected(x), rtol=1e-4, atol=1e-5)
    runtime.close()


@pytest.mark.parametrize("make", MAKERS[:-1])
def test_close_twice_then_not_ready(make: Maker, tmp_path: Path) -> None:
    """`close` may be called twice; afterwards a run is refused instead of crashing."""
    refuses_after_close(make(tmp_path, 1))


def test_the_compiled_one_too(tmp_path: Path) -> None:
    """The same of a runtime that is compiled: the last test, since the others share it."""
    refuses_after_close(compiled(1))


def refuses_after_close(runtime: Runtime) -> None:
    runtime.run({"image": images(1)})
    runtime.close()
    runtime.close()
    with pytest.raises(NotReadyError):
        runtime.run({"image": images(1)})
