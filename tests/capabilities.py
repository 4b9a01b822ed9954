"""What a test may need of the machine, and the only reasons for which one may skip.

Each capability has a probe and the Debian package that brings it; `scripts/setup` installs those packages where it can.
With `--require-capabilities` (CI) an absent capability is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.environments import python_of
from benchmarks.measure import BenchmarkError
from tests.faults.cpu_group import can_limit_cpu
from tests.faults.memory_group import can_limit_memory

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


class Capability(NamedTuple):
    """A thing the machine may have: how to see it, and what to install for it."""

    is_present: Callable[[], bool]
    debian_package: str


def _can_mount() -> bool:
    """Whether this process may mount a file system: root, and not in a sandbox that forbids it."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)
    return mounted.returncode == 0


def _can_limit_memory() -> bool:
    """Whether this process may make a memory control group."""
    root = Path("/sys/fs/cgroup")
    group = (root / "memory" if (root / "memory").is_dir() else root) / f"corelane-probe-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return False
    group.rmdir()
    return True


def _can_mount_images(make: str, num_bytes: int) -> Callable[[], bool]:
    """Whether an image file can be made a file system by the program `make`, and mounted."""

    def probe() -> bool:
        if not _program(make)():
            return False
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder, "image")
            with image.open("wb") as file:
                file.truncate(num_bytes)
            subprocess.run([make, "-q", str(image)], check=True)
            mount = ["mount", "-o", "loop", str(image), "/mnt"]
            mounted = subprocess.run(["unshare", "-m", *mount], capture_output=True, check=False)
        return mounted.returncode == 0

    return probe


def _can_trace() -> bool:
    """Whether strace is there and may trace a process of its own."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None or Path("/usr/sbin", name).exists()


def _can_make(environment: str) -> Callable[[], bool]:
    """Whether the environment of a client or peer is there, or can be made: pip reaches what it asks for."""

    def probe() -> bool:
        try:
            python_of(environment)
        except BenchmarkError:
            return False
        return True

    return probe


def _has_postgres() -> bool:
    return any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


CAPABILITIES: dict[str, Capability] = {
    "ext4": Capability(
        _can_mount_images("mkfs.ext4", 4 << 20), "e2fsprogs, and run as root where there are loop devices"
    ),
    "cpu-group": Capability(can_limit_cpu, "none: run as root, where control groups can be made"),
    "fashion-mnist": Capability(FASHION_MNIST.is_dir, "dataset-fashion-mnist"),
    "kserve": Capability(
        _can_make("kserve"), "none: let pip reach a package index; its SDK has an environment of its own"
    ),
    "memory-group": Capability(can_limit_memory, "none: run as root, where control groups can be made"),
    "mount": Capability(_can_mount, "mount, and run as root"),
    "nginx": Capability(_program("nginx"), "nginx-light"),
    "chromium": Capability(_program("chromium-headless-shell"), "chromium-headless-shell"),
    "gcc": Capability(_program("gcc"), "gcc"),
    "haproxy": Capability(_program("haproxy"), "haproxy"),
    "postgres": Capability(_has_postgres, "postgresql"),
    "memory-cgroup": Capability(_can_limit_memory, "none: run as root, where control groups may be made"),
    "promtool": Capability(_program("promtool"), "prometheus"),
    "strace": Capability(_can_trace, "strace"),
    "xfs": Capability(
        _can_mount_images("mkfs.xfs", 300 << 20), "xfsprogs, and run as root where there are loop devices"
    ),
    "wrk": Capability(_program("wrk"), "wrk"),
}

KIT = "tests/conformance/oip/"
OF_A_MODEL = ("needs a model of two inputs or more", "needs a model with an input of BYTES")
"""Why a test of the kit may skip for one of our own models; it runs for the other one."""

_asked: list[str] = []


def asks_another_server() -> None:
    """The kit asks somebody else's server, which may lack whatever is optional."""
    _asked.append(KIT)


def is_explained(reason: str, nodeid: str) -> bool:
    """Whether a test may skip for `reason`: a capability that is lacking, or what a test of the kit is not for."""
    needed = reason.removeprefix("needs ").partition(":")[0]
    if reason.startswith("needs ") and needed in CAPABILITIES:
        return True
    return KIT in nodeid and (reason in OF_A_MODEL or (bool(_asked) and reason.startswith("needs ")))
