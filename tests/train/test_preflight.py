"""A10: what is found out before step 0, so that a run does not end at its first save."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

import pytest

from corelane.core.errors import ConfigError, DiskFullError
from corelane.train.preflight import check_directory, checkpoint_bytes
from tests.train.examples import dropout_net


def test_a_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    """It exists afterwards, and no probe is left in it."""
    check_directory(tmp_path / "run/checkpoints", 1)
    assert list((tmp_path / "run/checkpoints").iterdir()) == []


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """A path that is a file is named."""
    (tmp_path / "checkpoints").write_text("not a folder")
    with pytest.raises(ConfigError, match="checkpoints must be a directory"):
        check_directory(tmp_path / "checkpoints", 1)
    assert (tmp_path / "checkpoints").read_text() == "not a folder"


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    """A link to nowhere is refused with its target, and nothing is made there."""
    (tmp_path / "checkpoints").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"symbolic link to .*gone"):
        check_directory(tmp_path / "checkpoints", 1)
    assert not (tmp_path / "gone").exists()


def test_a_link_to_a_directory_is_fine(tmp_path: Path) -> None:
    """A folder on another disk is linked to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    check_directory(tmp_path / "checkpoints", 1)


def test_two_checkpoints_must_fit(tmp_path: Path) -> None:
    """Too little room is told with both numbers."""
    with pytest.raises(DiskFullError, match=r"must have [\d,]{20,} bytes free for two checkpoints .* got [\d,]+"):
        check_directory(tmp_path, 1 << 60)
    assert checkpoint_bytes(dropout_net()) > 4 * sum(p.nbytes for p in dropout_net().parameters())


@pytest.mark.needs("mount")
def test_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    """Mounted read-only: refused as a directory that cannot be written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(ConfigError, match="must be a directory that can be written"):
            check_directory(disk / "checkpoints", 1)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: to become another user")
def test_another_owners_directory_is_refused(tmp_path: Path) -> None:
    """A directory that this user may not write: refused, in a process that has lost root's rights."""
    (tmp_path / "checkpoints").mkdir(mode=0o755)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from corelane.train.preflight import check_directory\n"
        "from corelane.core.errors import ConfigError\n"
        "import corelane.store.durable\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: check_directory(Path(sys.argv[1]), 1)\n"
        "except ConfigError as error: print(error)\n"
    )
    path = tmp_path / "checkpoints"
    top = Path(tempfile.gettempdir())
    for folder in takewhile(lambda parent: parent != top, path.parents):  # pytest's own, closed to others
        folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "must be a directory that can be written" in done.stdout


@pytest.mark.needs("mount")
def test_a_run_that_goes_on_needs_room_for_one(tmp_path: Path) -> None:
    """Where there are checkpoints already, pruning makes room for all but the next: one must fit, and two need not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(DiskFullError, match="two checkpoints"):
            check_directory(disk / "checkpoints", 40 << 10)
        (disk / "checkpoints/5").mkdir()
        check_directory(disk / "checkpoints", 40 << 10)
        with pytest.raises(DiskFullError, match="one more checkpoint"):
            check_directory(disk / "checkpoints", 80 << 10)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
