"""`metrics.jsonl`: what was measured at which step, one JSON object a line, only what a resumed run repeats exactly.

Times and rates, which no run repeats, are in the log instead. Every checkpoint carries the history up to its step, so
a resumed run first puts the file back to that point: no step is missing and none is there twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from corelane.core.errors import DiskFullError
from corelane.core.types import JsonObject
from corelane.store.bundle import write_atomic
from corelane.store.durable import full_disk_reported
from corelane.store.lease import Fence, NoLease


class History:
    """Owns the file and the same lines in memory, and nothing else. `fence` is asked before the file is changed."""

    def __init__(self, path: Path, fence: Fence | None = None) -> None:
        self._path = path
        self._fence = fence or NoLease()
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
            with full_disk_reported(self._path), self._path.open("ab") as file:
                file.write(line)
        except DiskFullError as error:
            message = f"the disk must have room for {self._path}, got none left; free some and run again with --resume"
            raise DiskFullError(message, detail=error.detail) from error

    @property
    def content(self) -> bytes:
        """All lines so far."""
        return b"".join(self._lines)

    def entries(self, kind: str) -> Iterable[JsonObject]:
        """The entries of one kind (`step` or `epoch`), oldest first."""
        return (entry for entry in map(json.loads, self._lines) if entry["kind"] == kind)
