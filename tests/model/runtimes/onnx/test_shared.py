"""Weights that processes share: the same answers, one copy in memory, one who makes it, and no file left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from corelane.model.runtimes.graph_file import GraphFile
from corelane.model.runtimes.onnx import shared
from corelane.model.runtimes.onnx.runtime import OnnxRuntime
from tests.serve.packages import mlp_graph

LARGE = GraphFile(mlp_graph(64, (1024, 1024), 10))
ROWS = {"features": np.random.default_rng(0).random((3, 64), np.float32)}
CHILD = """
import sys; from pathlib import Path; import numpy as np
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.onnx.runtime import OnnxRuntime
runtime = OnnxRuntime(read_graph(Path(sys.argv[1])), shared=Path(sys.argv[2]))
runtime.run({"features": np.zeros((1, 64), np.float32)})
print("ready", flush=True); sys.stdin.read(); runtime.close()
"""


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_what_is_shared_answers_as_what_is_not(tmp_path: Path) -> None:
    """To the last bit, with one thread or two; the file is there as long as somebody uses it."""
    plain = OnnxRuntime(LARGE)
    expected = plain.run(ROWS)["logits"]
    first, second = (OnnxRuntime(LARGE, num_threads=threads, shared=tmp_path) for threads in (1, 2))
    for runtime in (first, second):
        assert (runtime.inputs, runtime.outputs) == (plain.inputs, plain.outputs)
        np.testing.assert_array_equal(runtime.run(ROWS)["logits"], expected)
    first.close()
    assert files(tmp_path) == {"graph.onnx", "weights.bin"}
    np.testing.assert_array_equal(second.run(ROWS)["logits"], expected)
    second.close()
    second.close()
    assert files(tmp_path) == set()


def test_processes_have_the_weights_once(tmp_path: Path) -> None:
    """Both begin at once, one of them makes the file, and both read its pages; nothing is left when they have ended."""
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(LARGE.content)
    argv = [sys.executable, "-c", CHILD, str(graph), str(tmp_path / "shared")]
    children = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        assert [child.stdout.readline() for child in children if child.stdout] == ["ready\n"] * 2
        for child in children:
            mapped = Path(f"/proc/{child.pid}/smaps").read_text().partition("weights.bin\n")[2].splitlines()
            facts = dict(line.split(":", 1) for line in mapped[:20] if ":" in line)
            assert int(facts["Rss"].split()[0]) >= 4000  # kB
            assert int(facts["Pss"].split()[0]) <= 0.6 * int(facts["Rss"].split()[0])
            assert int(facts["Private_Dirty"].split()[0]) == 0
    finally:
        for child in children:
            child.communicate("", timeout=30)
    assert files(tmp_path / "shared") == set()


def test_small_graphs_and_folders_without_room_are_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are opened as ever: in memory of their own."""
    OnnxRuntime(GraphFile(mlp_graph(4, (8,), 2)), shared=tmp_path).close()
    assert files(tmp_path) == set()
    monkeypatch.setattr(shared, "ROOM", 1 << 60)
    runtime = OnnxRuntime(LARGE, shared=tmp_path)
    assert runtime.run(ROWS)["logits"].shape == (3, 10)
    assert files(tmp_path) == set()
    runtime.close()
    (tmp_path / "file").write_text("")
    OnnxRuntime(LARGE, shared=tmp_path / "file" / "folder").close()


@pytest.mark.parametrize("broken", ["graph.onnx", "weights.bin"])
def test_a_torn_file_is_passed_by(tmp_path: Path, broken: str) -> None:
    """A disk that was full where nobody saw it: the graph is opened from its own bytes."""
    first = OnnxRuntime(LARGE, shared=tmp_path)
    [path] = tmp_path.rglob(broken)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)
    second = OnnxRuntime(LARGE, shared=tmp_path)
    np.testing.assert_array_equal(second.run(ROWS)["logits"], OnnxRuntime(LARGE).run(ROWS)["logits"])
    second.close()
    first.close()
