"""A disk whose power can be cut: a file system in an image file, of which only what was written to it is kept.

What processes write stays in the page cache of the mounted file system until that writes it back or is told to (fsync).
The image file holds just what was written back, so a copy of it is what a disk would hold had the power failed then.
The copy is taken between two writes of the device, so that it is the disk of one moment. It is a kind disk: it keeps
the order of writes, and every write that was begun. A disk that lies about flushing is not promised for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAKE = {
    "ext4": (24 << 20, ["mkfs.ext4", "-q", "-F", "-m", "0"]),
    "xfs": (300 << 20, ["mkfs.xfs", "-q"]),
}
"""File systems that keep their own structure whole: the smallest size that they can be made with, and how."""

_AS_A_COPY = {"ext4": "loop", "xfs": "loop,nouuid"}  # XFS does not mount two with one name, unless told so
_WRITES, _IN_FLIGHT = 4, 8  # fields of a block device's `stat` (Documentation/block/stat.rst of the kernel)


class Disk:
    """A mounted file system at `path`. Use `powered` to make one."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.path = folder / "disk"
        self._kind, self._image, self._after = kind, folder / "disk.img", folder / "after"
        self._device = ""

    def plug_in(self) -> None:
        self.path.mkdir()
        self._after.mkdir()
        num_bytes, make = MAKE[self._kind]
        with self._image.open("wb") as image:
            image.truncate(num_bytes)
        _call(*make, str(self._image))
        _call("mount", "-o", "loop", str(self._image), str(self.path))
        self._device = Path(_call("findmnt", "-n", "-o", "SOURCE", str(self.path)).strip()).name

    def unplug(self) -> None:
        _call("umount", str(self.path))

    @contextmanager
    def after_cut(self) -> Iterator[Path]:
        """The file system, recovered and mounted again, as it would be had the power failed now."""
        copy = self._image.with_name("copy.img")
        self._copy_at_rest(copy)
        _call("mount", "-o", _AS_A_COPY[self._kind], str(copy), str(self._after))
        try:
            yield self._after
        finally:
            _call("umount", str(self._after))

    def _copy_at_rest(self, copy: Path) -> None:
        while True:
            before = self._writes()
            copy.unlink(missing_ok=True)
            _call("cp", "--sparse=always", str(self._image), str(copy))
            if before is not None and before == self._writes():
                return

    def _writes(self) -> int | None:
        """How many writes the device has completed; None while it writes."""
        fields = Path("/sys/block", self._device, "stat").read_text().split()
        return int(fields[_WRITES]) if fields[_IN_FLIGHT] == "0" else None


@contextmanager
def powered(folder: Path, kind: str) -> Iterator[Disk]:
    """A new disk of this kind below `folder`; gone with the block. Needs root."""
    disk = Disk(folder, kind)
    disk.plug_in()
    try:
        yield disk
    finally:
        disk.unplug()


def _call(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
