"""The Python that runs a peer: ours, or a virtual environment of the peer's own made from its pinned requirements.

A peer whose packages we do not depend on has a file `requirements/<peer>.txt`; its environment lies in `.envs/<peer>`
and is made again when that file changes.
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
    install = [
        str(environment / "bin" / "pip"),
        "install",
        "-q",
        "--disable-pip-version-check",
        "-r",
        str(requirements),
    ]
    for command in ([sys.executable, "-m", "venv", str(environment)], install):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
