"""The judging process: what it writes, and that its limits are the first thing it has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from corelane.model.foreign.worker import ANSWERS, CHECKED, FOUND, MODEL, REFUSED, ROWS, read_arrays, write_arrays
from tests.model.foreign import graphs

JUDGE = """
import resource, sys
from pathlib import Path
from corelane.model.foreign import worker
code = worker.judge(Path(sys.argv[1]), processor_s=int(sys.argv[2]))
print(code, resource.getrlimit(resource.RLIMIT_CPU), resource.getrlimit(resource.RLIMIT_AS)[0] // 2**30)
"""


def judged(folder: Path, processor_s: int = 50) -> str:
    argv = [sys.executable, "-c", JUDGE, str(folder), str(processor_s)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip() or str(done.returncode)


def test_it_looks_then_answers_rows(tmp_path: Path) -> None:
    """First the graph is judged and written, then rows beside it are answered; memory and time are limited."""
    (tmp_path / MODEL).write_bytes(graphs.content(graphs.doubled()))
    assert judged(tmp_path) == "0 (50, 55) 4"
    assert json.loads((tmp_path / FOUND).read_bytes())["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2]}]
    write_arrays(tmp_path / ROWS.format(0), {"x": np.ones((2, 2), dtype=np.float32)})
    assert judged(tmp_path).startswith("0")
    np.testing.assert_array_equal(read_arrays(tmp_path / ANSWERS.format(0), ["y"])["y"], np.full((2, 2), 2.0))


def test_a_refusal_is_written_with_its_reason(tmp_path: Path) -> None:
    """Nothing else is: there is no graph to use."""
    (tmp_path / MODEL).write_bytes(graphs.content(graphs.external("/etc/passwd")))
    assert judged(tmp_path).startswith("2")
    told = json.loads((tmp_path / REFUSED).read_bytes())
    assert (told["code"], "another file" in told["message"]) == ("bundle_broken", True)
    assert not (tmp_path / CHECKED).exists()


def test_a_loop_without_an_end_is_ended(tmp_path: Path) -> None:
    """By the limit on its processor time, whatever library it hangs in; a graph that wants all memory is refused."""
    (tmp_path / MODEL).write_bytes(graphs.content(graphs.endless()))
    assert judged(tmp_path, processor_s=4) in {str(-signal.SIGXCPU), str(-signal.SIGKILL)}
    (tmp_path / MODEL).write_bytes(graphs.content(graphs.huge()))
    assert judged(tmp_path).startswith("2")
    assert not (tmp_path / CHECKED).exists()
