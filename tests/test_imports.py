"""Start-up stays light: what must not be imported is not, in a fresh interpreter."""

import json
import subprocess
import sys


def _modules_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_corelane_imports_nothing_heavy() -> None:
    """`import corelane` loads neither torch nor NumPy nor a server."""
    assert not _modules_after("import corelane") & {"torch", "numpy", "pyarrow", "httptools", "onnxruntime", "pydantic"}


def test_the_command_line_starts_without_the_rooms() -> None:
    """`corelane --help` needs none of the libraries that do the work."""
    assert not _modules_after("import corelane.cli") & {"torch", "numpy", "pyarrow", "httptools", "onnxruntime"}


def test_serving_and_scoring_do_not_import_torch() -> None:
    """What serves or scores an ONNX package never loads torch, nor the exporter."""
    loaded = _modules_after("import corelane.app.serving, corelane.app.scoring, corelane.serve.run")
    assert not loaded & {"torch", "onnx", "onnxscript"}
