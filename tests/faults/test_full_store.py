"""A save to disks that are really full: of bytes, of names, by a limit; and to one that became read-only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corelane.core.errors import ConfigError, DiskFullError
from tests.faults.save_child import save, whole

NUM_BYTES = 150_000  # more than the disks below have, less than the ballast on them
TMPFS = ["mount", "-t", "tmpfs", "-o"]


@contextmanager
def mounted(folder: Path, *command: str) -> Iterator[Path]:
    """A small disk, mounted by `command`."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run([*command, str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _refuse_then_take(disk: Path, got: str) -> None:
    """With ballast on the disk a save fails in words and touches nothing; with the ballast gone it is taken."""
    checkpoints = disk / "checkpoints"
    save(checkpoints, 1)
    (disk / "ballast").mkdir()
    for number in range(8):
        (disk / "ballast" / str(number)).write_bytes(bytes(25_000))
    with pytest.raises(DiskFullError, match=rf"must have 150,010 bytes free for {checkpoints}/2, got {got}; free some"):
        save(checkpoints, 2, NUM_BYTES)
    assert [path.name for path in checkpoints.iterdir()] == ["1"]
    assert whole(checkpoints) == [1]
    for number in range(8):
        (disk / "ballast" / str(number)).unlink()
    save(checkpoints, 2, NUM_BYTES)
    assert whole(checkpoints, NUM_BYTES) == [2]


@pytest.mark.needs("mount")
def test_no_bytes_left(tmp_path: Path) -> None:
    """A3: A full disk is told with the bytes needed and free; of the attempt nothing is left, all else is untouched."""
    with mounted(tmp_path, *TMPFS, "size=300k", "tmpfs") as disk:
        _refuse_then_take(disk, r"\d?\d,\d{3} bytes and [\d,]+ files free")


@pytest.mark.needs("ext4")
def test_no_bytes_left_on_ext4(tmp_path: Path) -> None:
    """A3: So is one whose file system decides late where bytes go."""
    image = tmp_path / "image"
    image.write_bytes(bytes(512 << 10))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image)], check=True)
    with mounted(tmp_path, "mount", "-o", "loop", str(image)) as disk:
        free = int(subprocess.check_output(["stat", "-f", "-c", "%a", str(disk)])) * 1024
        (disk / "more").write_bytes(bytes(max(0, free - 290_000)))
        _refuse_then_take(disk, r"\d?\d,\d{3} bytes and [\d,]+ files free")


@pytest.mark.needs("mount")
def test_no_names_left(tmp_path: Path) -> None:
    """A3: A disk that has bytes but no names left says that: bytes alone would send the reader the wrong way."""
    with mounted(tmp_path, *TMPFS, "size=2m,nr_inodes=18", "tmpfs") as disk:
        _refuse_then_take(disk, r"1,\d{3},\d{3} bytes and [0-5] files free")


@pytest.mark.needs("mount")
def test_a_limit_on_files(tmp_path: Path) -> None:
    """A3: A file that is larger than the process may write is told as such; the smaller older ones stay."""
    checkpoints = tmp_path / "checkpoints"
    save(checkpoints, 1)
    child = [sys.executable, "-m", "tests.faults.save_child", str(checkpoints), "2", "2", str(NUM_BYTES)]
    ended = subprocess.run(["prlimit", "--fsize=50000", *child], capture_output=True, text=True, check=True)
    assert "failed 2 DiskFullError" in ended.stdout
    assert "got a limit on the size of a file" in ended.stdout
    assert [path.name for path in checkpoints.iterdir()] == ["1"]
    assert whole(checkpoints) == [1]


@pytest.mark.needs("mount")
def test_a_disk_that_became_read_only(tmp_path: Path) -> None:
    """A3: What Linux does with a broken disk: saves fail in words, what is there can still be read."""
    with mounted(tmp_path, *TMPFS, "size=1m", "tmpfs") as disk:
        save(disk / "checkpoints", 1)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(ConfigError, match="checkpoints must be a directory that can be written, got 'Read-only"):
            save(disk / "checkpoints", 2)
        assert whole(disk / "checkpoints") == [1]
