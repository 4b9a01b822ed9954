"""One copy of a graph's weights for all processes of a server: ONNX Runtime maps them from a file.

Weights inside an ONNX file are copied into each session, and copied once more into the layout in which products read
them. A session can save the graph as it has optimised it, with the weights in that layout in a file of their own
(`session.save_external_prepacked_constant_initializers`, from ONNX Runtime 1.21 on); sessions that open it read the
pages of that file, which the system holds once. Such a file is for this machine and this version of the library, so
that it lies in a folder of the server and goes with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnxruntime

from corelane.core.clock import SystemClock
from corelane.model.runtimes.graph_file import GraphFile
from corelane.store.durable import discard
from corelane.store.hold import Hold, builder_lock, hold, remove_unless_held

LEAST_BYTES = 4 << 20  # of a graph; what a smaller one would save is not worth a file
ROOM = 3  # times the graph's size that must be free: the weights, their layout, and something for everybody else
WAIT_S = 120.0  # for another process that makes the file
SMALL_WEIGHT = 4096  # bytes; smaller ones stay in the graph
_GRAPH, _WEIGHTS = "graph.onnx", "weights.bin"

Options = Callable[[], onnxruntime.SessionOptions]


class SharedGraph:
    """A hold on the graph that was saved for all; the last one that gives it back removes it."""

    def __init__(self, place: Path, held: Hold) -> None:
        self._place = place
        self._held = held

    @property
    def path(self) -> str:
        """What a session opens."""
        return str(self._place / _GRAPH)

    def close(self) -> None:
        """Give it back. What sessions have mapped stays mapped. May be called twice."""
        self._held.release()
        remove_unless_held(self._place)


def shared_graph(graph: GraphFile, folder: Path, options: Options) -> SharedGraph | None:
    """`graph` as it is shared in `folder`, made by whoever is first; None where it is small, or cannot be shared.

    `options` are those that a session of `graph` is opened with.
    """
    if len(graph.content) < LEAST_BYTES:
        return None
    place = folder / hashlib.sha256(graph.content).hexdigest()[:32]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = folder / f"{place.name}.lock"
        with builder_lock(lock, wait_s=WAIT_S, clock=SystemClock(), tell=lambda _: None):
            held = hold(place) or _made(graph, place, options)
    except OSError:  # a folder without room, or none that can be written
        return None
    return None if held is None else SharedGraph(place, held)


def _made(graph: GraphFile, place: Path, options: Options) -> Hold | None:
    if shutil.disk_usage(place.parent).free < ROOM * len(graph.content):
        return None
    staged = place.with_name(f"{place.name}.{os.getpid()}")
    staged.mkdir(mode=0o700)
    saving = options()
    saving.optimized_model_filepath = str(staged / _GRAPH)
    prefix = "session.optimized_model_external_initializers"
    saving.add_session_config_entry(f"{prefix}_file_name", _WEIGHTS)
    saving.add_session_config_entry(f"{prefix}_min_size_in_bytes", str(SMALL_WEIGHT))
    saving.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    try:
        onnxruntime.InferenceSession(graph.content, saving, providers=["CPUExecutionProvider"])
        staged.rename(place)
    except Exception:  # noqa: BLE001 - whatever the library cannot save is opened as any other graph, and judged there
        discard(staged)
        return None
    return hold(place)
