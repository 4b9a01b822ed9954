"""Fake `/proc` and `/sys` trees: a machine written down in a test, for `Machine.detect` and `read_limits` to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

X86_CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu sse4_2 lm avx fma avx2 avx512f avx512_vnni amx_tile amx_int8 amx_bf16 hypervisor

processor\t: 1
model name\t: not the first
"""

ARM_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes asimdhp asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
"""

V2_MOUNT = "31 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
UNLIMITED_V1 = "9223372036854771712"  # what version 1 writes where there is no limit


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write each file of `files` (path below `root`: text) and return `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def machine_files(
    allowed: str = "0-3",
    *,
    siblings: Mapping[int, str] | None = None,
    cpuinfo: str = X86_CPUINFO,
    ram_kib: int = 16 * 2**20,
) -> dict[str, str]:
    """A machine without control groups; `siblings` maps a CPU to the list of CPUs on its core."""
    files = {
        "proc/cpuinfo": cpuinfo,
        "proc/meminfo": f"MemTotal:       {ram_kib} kB\nMemFree:        1024 kB\n",
        "proc/self/status": f"Name:\tpython\nCpus_allowed:\tf\nCpus_allowed_list:\t{allowed}\n",
    }
    for cpu, group in (siblings or {}).items():
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"] = f"{group}\n"
    return files


def v2_files(group: str, limits: Mapping[str, str]) -> dict[str, str]:
    """Control groups version 2, this process in `group`; `limits` maps files below the mount point to their text."""
    return {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": f"{V2_MOUNT}\n",
        **{f"sys/fs/cgroup/{name}": text for name, text in limits.items()},
    }
