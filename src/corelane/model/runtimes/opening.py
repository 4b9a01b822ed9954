"""From a candidate to the runtime that it names. The only place that knows which libraries there are.

`ModelPackage.predictor` calls it. Nothing but ONNX Runtime is imported until a candidate asks for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from corelane.core.errors import BundleError, ConfigError, MemoryBudgetError, MissingDependencyError, RequestError
from corelane.core.types import JsonObject, NamedArrays
from corelane.model.candidate import Candidate, RuntimeName
from corelane.model.runtimes.base import GraphRuntime, Runtime
from corelane.model.runtimes.graph_file import GraphFile
from corelane.model.runtimes.onnx.runtime import OnnxRuntime
from corelane.model.runtimes.openvino.runtime import OpenVinoRuntime
from corelane.model.runtimes.streams import Streams

BF16 = "bf16"
"""Name of the graph that is fp32's file, run with bfloat16 products: the precision is the runtime's."""

INT16 = "int16"
"""Name of the graph whose activations have 16 bits."""

CANNOT_RUN = (BundleError, RequestError, MemoryBudgetError, MissingDependencyError)
"""What is raised where a library cannot open a graph or compute its rows: another one may."""

BF16_ISA = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_WEIGHT_GRAPHS = ("fp32", BF16)


def usable_runtimes() -> tuple[RuntimeName, ...]:
    """Which libraries are installed here, without importing them. torch needs a C++ compiler beside it."""
    found: list[RuntimeName] = ["onnxruntime"]
    if find_spec("openvino") is not None:
        found.append("openvino")
    if find_spec("torch") is not None and shutil.which("g++") is not None:
        found.append("torch")
    return tuple(found)


def runtimes_of(graph: str, isa: Collection[str]) -> tuple[RuntimeName, ...]:
    """Those of `usable_runtimes` that run `graph` as what it is called on a CPU with the instruction sets `isa`.

    bfloat16 is a runtime's, and only where the CPU multiplies it. torch runs weights, which are not quantised, and only
    those of Corelane's networks. OpenVINO 2026.4 reads a graph of 16-bit activations and answers wrongly.
    """
    able: tuple[RuntimeName, ...] = ("onnxruntime", "openvino")
    if graph == BF16:
        able = () if BF16_ISA.isdisjoint(isa) else ("openvino", "torch")
    elif graph == INT16:
        able = able[:1]
    elif graph in _WEIGHT_GRAPHS:
        able = (*able, "torch")
    return tuple(name for name in usable_runtimes() if name in able)


def open_runtime(graph: GraphFile, candidate: Candidate, *, shared: Path | None = None) -> GraphRuntime:
    """`graph` in the library of `candidate`, ready for `candidate.streams` calls at the same time.

    Processes that name the same folder `shared` have its weights once between them, where the library can do that:
    ONNX Runtime can.

    Raises `ConfigError` for torch, which runs weights, and for bfloat16 in ONNX Runtime, which has none; `BundleError`
    for a graph that cannot be run; `MissingDependencyError` where the library is absent.
    """
    if candidate.runtime == "openvino":
        return OpenVinoRuntime(
            graph,
            num_threads=candidate.threads,
            num_streams=candidate.streams,
            is_bf16=candidate.graph == BF16,
        )
    if candidate.runtime == "torch" or candidate.graph == BF16:
        raise ConfigError(f"a graph file must be run by a library that can, got {candidate}; choose another candidate")
    # One thread a call: a session has no pool then, and any number of callers share it.
    num_sessions = candidate.streams if candidate.threads > 1 else 1
    sessions = [OnnxRuntime(graph, num_threads=candidate.threads, shared=shared) for _ in range(num_sessions)]
    return Streams(sessions) if num_sessions > 1 else sessions[0]


def open_weights(architecture: JsonObject, weights: NamedArrays, candidate: Candidate) -> Runtime:
    """The network that `architecture` describes with its `weights`, compiled by torch for `candidate`.

    Raises `ConfigError` for a network that is not one of Corelane's and for a quantised graph, `BundleError` when the
    weights do not fit.
    """
    if candidate.graph not in _WEIGHT_GRAPHS:
        raise ConfigError(f"a graph run by torch must be one of {list(_WEIGHT_GRAPHS)}, got {candidate.graph!r}")
    from corelane.model.nets.build import described_inputs  # noqa: PLC0415 - these three import torch
    from corelane.model.runtimes.torch_compiled import CompiledTorchRuntime  # noqa: PLC0415
    from corelane.model.runtimes.torch_weights import described_module  # noqa: PLC0415

    return CompiledTorchRuntime(
        described_module(architecture, weights),
        described_inputs(architecture),
        num_threads=candidate.threads,
        is_bf16=candidate.graph == BF16,
        num_rows=candidate.batch,
    )
