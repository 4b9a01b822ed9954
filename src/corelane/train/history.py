"""`metrics.jsonl`: what was measured at which step, one JSON object a line, only what a resumed run repeats exactly.

Times and rates, which no run repeats, are in the log instead. Every checkpoint carries the history up to its step, so
a resumed run first puts the file back to that point: no step is missing and none is there twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from corelane.core.errors import DiskFullError
from corelane.core.types import JsonObject
from corelane.store.bundle import write_atomic
from corelane.store.durable import full_disk_reported
from corelane.store.lease import Fence, NoLease


class History:
    """Owns the file and the same lines in memory, and nothing else. `fence` is asked before the file is changed.

    A full disk ends no run: lines stay in memory, `tell` hears of it once, and the file is made whole when it can be.
    """

    def __init__(
        self, path: Path, fence: Fence | None = None, tell: Callable[[str, JsonObject], None] = lambda *_: None
    ) -> None:
        self._path = path
        self._fence = fence or NoLease()
        self._tell = tell
        self._is_behind = False  # the file lacks lines that memory has
        self._lines: list[bytes] = []

    def reset(self, content: bytes = b"") -> None:
        """Put file and memory to `content`, whole lines as `content` of another history gave them."""
        self._lines = content.splitlines(keepends=True)
        self._fence.check()
        write_atomic(self._path, content)

    def add(self, kind: str, entry: JsonObject) -> None:
        """Append one line: `{"kind": kind, **entry}`. Floats are written so that they read back exactly."""
        line = json.dumps({"kind": kind, **entry}, allow_nan=False).encode() + b"\n"
        self._lines.append(line)
        self._fence.check()
        try:
            self._write(line)
        except DiskFullError as error:
            if not self._is_behind:
                self._tell("history_behind", {"reason": error.message, "action": "kept in memory and in checkpoints"})
            self._is_behind = True

    def _write(self, line: bytes) -> None:
        if self._is_behind:
            write_atomic(self._path, self.content)
            self._is_behind = False
            return
        with full_disk_reported(self._path), self._path.open("ab") as file:
            file.write(line)

    @property
    def content(self) -> bytes:
        """All lines so far."""
        return b"".join(self._lines)

    def entries(self, kind: str) -> Iterable[JsonObject]:
        """The entries of one kind (`step` or `epoch`), oldest first."""
        return (entry for entry in map(json.loads, self._lines) if entry["kind"] == kind)
