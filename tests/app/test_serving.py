"""Composing a server: options without a configuration file; the gate's server, which must not outlive its caller."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corelane.app.serving import child_server, serve
from corelane.core.errors import ConfigError, SkewError
from tests.serve.packages import numeric_package

ASK = "import sys; from pathlib import Path; from corelane.app.serving import child_server; import time\n"
ASK += "with child_server(Path(sys.argv[1])) as url: print(url, flush=True); time.sleep(60)"


@pytest.mark.parametrize("option", ["name", "serve", "serve.port", "name.x=1", "serve.port=many", "serve.prot=1"])
def test_odd_options_are_refused_without_a_configuration_too(option: str) -> None:
    """`--set` means the same with and without a file: what is no override is told in one line."""
    with pytest.raises(ConfigError):
        serve(["nowhere"], overrides=[option])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_gates_server_dies_with_its_caller(tmp_path: Path, number: signal.Signals) -> None:
    """A packaging that is killed leaves no server behind."""
    argv = [sys.executable, "-c", ASK, str(numeric_package(tmp_path))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline().startswith(b"http://")
        children = _children(caller.pid)
        assert children
        caller.send_signal(number)
    deadline_s = time.monotonic() + 10.0
    while any(_runs(child) for child in children) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    left = [child for child in children if _runs(child)]
    for child in left:
        os.kill(child, signal.SIGKILL)
    assert not left


def test_why_the_gates_server_does_not_start_is_told(tmp_path: Path) -> None:
    """The error has the last lines of the server's own: here that its package's graph is none."""
    package = numeric_package(tmp_path, graph=b"no graph")
    with pytest.raises(SkewError, match=r"its last errors: .*fp32\.onnx"), child_server(package):
        pass


def _children(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [grandchild for child in found for grandchild in _children(child)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
