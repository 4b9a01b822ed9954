"""A graph file in memory: its bytes, never its path, go to the libraries, so that what a graph refers to is not read.

The bytes that are run are the bytes that were judged: where a file's SHA-256 is known, it is taken of what was read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from corelane.core.errors import BundleError

MAX_GRAPH_BYTES = (2 << 30) - 1  # protobuf's own limit; what is larger cannot be an ONNX file with its weights inside


@dataclass(frozen=True, slots=True)
class GraphFile:
    """The content of an ONNX file, and what messages call it."""

    content: bytes
    name: str = "the graph"


def read_graph(graph: Path, sha256: str | None = None) -> GraphFile:
    """The content of `graph`.

    Raises `BundleError` when it is missing, empty or too large to be an ONNX file, or has not the given `sha256`.
    """
    size = graph.stat().st_size if graph.is_file() else 0
    if not 0 < size <= MAX_GRAPH_BYTES:
        raise BundleError(
            f"{graph} must be an ONNX file of 1 to {MAX_GRAPH_BYTES} bytes, got {size}; package the run again"
        )
    content = graph.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{graph} must stay as it was when it was verified, got other bytes; load the package again")
    return GraphFile(content, str(graph))


def not_runnable(graph: GraphFile, library: str, error: Exception) -> BundleError:
    """For a graph that `library` refuses."""
    return BundleError(f"{graph.name} must be a graph that {library} can run; package the run again", detail=str(error))
