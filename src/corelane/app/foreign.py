"""A foreign graph judged in a child process with limits: what the child found, or why it refused. No torch, no onnx."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from corelane.app.runs import error_class
from corelane.core.errors import BundleError, CorelaneError
from corelane.core.types import Array, NamedArrays
from corelane.machine.child import tied_argv
from corelane.model.foreign import worker
from corelane.model.foreign.description import ForeignGraph
from corelane.model.foreign.worker import (
    ANSWERS,
    CHECKED,
    FOUND,
    MODEL,
    REFUSED,
    ROWS,
    read_arrays,
    write_arrays,
)

LOOK_S = 120.0  # for a file of 2 GB on a slow disk; a small one is looked at in two seconds
RUN_S = 900.0  # for a thousand rows of a large network on one thread


class Apart:
    """A folder that a judging process gets, and what lies in it afterwards. Raises `CorelaneError` as the child did."""

    def __init__(self, folder: Path, content: bytes) -> None:
        """Judge the ONNX file `content`."""
        self._folder = folder
        (folder / MODEL).write_bytes(content)
        self._run(LOOK_S)
        self.graph = ForeignGraph.model_validate_json((folder / FOUND).read_bytes())
        self.content = (folder / CHECKED).read_bytes()

    def answers(self, groups: Sequence[NamedArrays]) -> list[dict[str, Array]]:
        """What the graph gives for the groups of rows [n, ...], in order.

        Where the answers are large, they are those of the first rows of a group only, and of the first groups.
        """
        names = [one.name for one in self.graph.inputs]
        for index, rows in enumerate(groups):
            write_arrays(self._folder / ROWS.format(index), {name: rows[name] for name in names})
        self._run(RUN_S)
        outputs = [one.name for one in self.graph.outputs]
        written = [self._folder / ANSWERS.format(index) for index in range(len(groups))]
        return [read_arrays(path, outputs) for path in written if path.exists()]

    def _run(self, limit_s: float) -> None:
        argv = [
            sys.executable,
            "-m",
            "corelane",
            "import-worker",
            str(self._folder),
            "--processor-s",
            str(int(limit_s)),
        ]
        try:
            done = subprocess.run(
                tied_argv(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BundleError(_too_long(limit_s)) from error
        told = done.stderr.decode(errors="replace")
        refused = self._folder / REFUSED
        if refused.exists():
            raise _told_again(json.loads(refused.read_bytes()))
        if done.returncode == -signal.SIGXCPU:
            raise BundleError(_too_long(limit_s))
        if done.returncode:
            raise BundleError(
                "the model must be one that can be opened and run in limited memory, got a process that ended "
                f"{_ending(done.returncode)}",
                detail=told[-2000:],
            )


def _too_long(limit_s: float) -> str:
    return f"the model must be opened and run within {limit_s:.0f} s, got one that takes longer; it was stopped"


def _ending(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with code {code}"


def _told_again(refusal: dict[str, str]) -> CorelaneError:
    return error_class(refusal["code"])(refusal["message"], detail=refusal["detail"])


def judge(folder: Path, *, processor_s: int) -> int:
    """Judge the model in `folder` in this process; the exit code."""
    return worker.judge(folder, processor_s=processor_s)
