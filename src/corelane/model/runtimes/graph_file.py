"""Reading a graph file: its bytes, never its path, go to the libraries, so that what a graph refers to is not read."""

from __future__ import annotations

from pathlib import Path

from corelane.core.errors import BundleError

MAX_GRAPH_BYTES = (2 << 30) - 1  # protobuf's own limit; what is larger cannot be an ONNX file with its weights inside


def read_graph(graph: Path) -> bytes:
    """The content of `graph`. Raises `BundleError` when it is missing, empty or too large to be an ONNX file."""
    size = graph.stat().st_size if graph.is_file() else 0
    if not 0 < size <= MAX_GRAPH_BYTES:
        raise BundleError(
            f"{graph} must be an ONNX file of 1 to {MAX_GRAPH_BYTES} bytes, got {size}; package the run again"
        )
    return graph.read_bytes()


def not_runnable(graph: Path, library: str, error: Exception) -> BundleError:
    """For a graph that `library` refuses."""
    return BundleError(f"{graph} must be a graph that {library} can run; package the run again", detail=str(error))


def wrong_outputs(graph: Path, wanted: str, got: list[str]) -> BundleError:
    """For a graph whose outputs are not the one that is `wanted`."""
    return BundleError(f"{graph} must have the one output {wanted!r}, got {got}; package the run again")
