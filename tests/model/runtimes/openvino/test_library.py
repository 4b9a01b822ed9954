"""`model.runtimes.openvino.library`: an extra that may be absent, and that tells nobody that it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corelane.core.errors import MissingDependencyError
from corelane.model.runtimes.openvino.library import load_openvino
from tests.model.runtimes.test_base import graph

LOAD = """
import socket, sys

def refuse(*args):
    raise AssertionError("a connection was opened")

socket.socket.connect = refuse
from corelane.model.runtimes.openvino.library import load_openvino
load_openvino().Core()
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name]))
import multiprocessing
print(multiprocessing.active_children())
"""


def test_nobody_is_told(tmp_path: Path) -> None:
    """Loading the library writes nothing below the home directory and never loads what would report."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    child = subprocess.run(
        [sys.executable, "-c", LOAD],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert child.stdout.split() == ["[]", "[]"]
    assert not (tmp_path / "intel").exists()


def test_an_absent_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"openvino must be installed.*corelane\[openvino\]"):
        load_openvino()


SIGNALLED = """
import gc, os, signal, sys, threading
from pathlib import Path
from corelane.model.candidate import Candidate
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.opening import open_runtime
runtimes = [open_runtime(read_graph(Path(sys.argv[1])), Candidate("openvino", "fp32"))]
def let_go():
    runtimes.pop().close()
    gc.collect()
thread = threading.Thread(target=let_go)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_handled_after_a_runtime_was_closed_elsewhere(tmp_path: Path) -> None:
    """A server closes a runtime in another thread than opened it, and is stopped by a signal later."""
    path = tmp_path / "graph.onnx"
    path.write_bytes(graph())
    done = subprocess.run([sys.executable, "-c", SIGNALLED, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n")
