"""The Python that runs a peer: ours, or a virtual environment of the peer's own made from its pinned requirements.

A peer whose packages we do not depend on has a file `requirements/<peer>.txt`; its environment lies in `.envs/<peer>`
and is made again when that file changes. A first line `# python: PATH` names the interpreter that the peer must have.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import BenchmarkError, say

HERE = Path(__file__).resolve().parent


def python_of(peer: str) -> str:
    """Path of the interpreter that has what `peer` needs; makes its environment the first time (pip, a minute)."""
    requirements = HERE / "requirements" / f"{peer}.txt"
    if not requirements.is_file():
        return sys.executable
    environment = HERE / ".envs" / peer
    stamp = environment / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        _make(environment, requirements)
        stamp.write_text(wanted)
    return str(environment / "bin" / "python")


def _make(environment: Path, requirements: Path) -> None:
    say(f"making {environment} from {requirements.name} ...")
    shutil.rmtree(environment, ignore_errors=True)
    make = [interpreter(requirements), "-m", "venv", "--without-pip", str(environment)]
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "--disable-pip-version-check"]
    for command in (make, [*pip, "install", "-q", "-r", str(requirements)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def interpreter(requirements: Path) -> str:
    """The Python that the environment of `requirements` is made with. Raises `BenchmarkError` where it is absent."""
    first = requirements.read_text().splitlines()[0]
    path = first.removeprefix("# python:").strip() if first.startswith("# python:") else sys.executable
    if not Path(path).exists():
        raise BenchmarkError(f"{requirements.name} must have {path}, got none; install Debian's python3.11")
    return path
