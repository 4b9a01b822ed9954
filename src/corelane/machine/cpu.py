"""What this machine is and what of it this process may use: CPUs, cores, caches, instruction sets, quota and memory.

Everything is read from `/proc` and `/sys` below a root, so tests hand in a fake tree; nothing is benchmarked here.
`app` calls `Machine.detect()` once and passes the one thread budget to every pool.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from corelane.core.types import JsonObject
from corelane.machine.cgroup import read_limits
from corelane.machine.config import MachineConfig

_X86_ISA = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_vnni_int8"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
)
_ARM_ISA = {  # the kernel's name: the name people use
    "neon": "neon",
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
    "sme2": "sme2",
}
_ARM_CORES = {  # (implementer, part) as /proc/cpuinfo gives them; ARM kernels print no model name
    ("0x41", "0xd07"): "ARM Cortex-A57",
    ("0x41", "0xd08"): "ARM Cortex-A72",
    ("0x41", "0xd0b"): "ARM Cortex-A76",
    ("0x41", "0xd0c"): "ARM Neoverse-N1",
    ("0x41", "0xd40"): "ARM Neoverse-V1",
    ("0x41", "0xd49"): "ARM Neoverse-N2",
    ("0x41", "0xd4f"): "ARM Neoverse-V2",
    ("0xc0", "0xac3"): "Ampere-1",
}
DATA_SHARE = 0.3  # the design's division of memory: model 40 %, data 30 %, gradients 20 %, system 10 %
_SIZES = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class Budget:
    """What one process may plan with: threads over all its pools, and bytes of memory."""

    threads: int
    memory_bytes: int

    @property
    def data_bytes(self) -> int:
        """The data pool's part of the memory."""
        return int(self.memory_bytes * DATA_SHARE)


@dataclass(frozen=True)
class Machine:
    """The machine as this process may use it.

    `cores` groups `logical_cpus` (the affinity mask) by physical core and `numa_nodes` by memory node. `smt` says that
    cores have several hardware threads, whether or not we may use them. `caches` has bytes per instance by name (L1d,
    L2...). `cpu_quota` is in CPUs; `memory_bytes` is the smaller of RAM and the cgroup's limit.
    """

    architecture: str
    model_name: str
    logical_cpus: tuple[int, ...]
    cores: tuple[tuple[int, ...], ...]
    smt: bool
    numa_nodes: tuple[tuple[int, ...], ...]
    caches: Mapping[str, int]
    isa: tuple[str, ...]
    cpu_quota: float | None
    ram_bytes: int
    memory_bytes: int

    @classmethod
    def detect(cls, root: Path = Path("/")) -> Machine:
        """Read the machine from the `/proc` and `/sys` below `root`; what cannot be read is taken as not there."""
        info = _read_cpuinfo(root)
        cpus = _allowed_cpus(root)
        siblings = {cpu: _siblings(root, cpu) for cpu in cpus}
        limits = read_limits(root)
        ram_bytes = _ram_bytes(root)
        return cls(
            architecture=_architecture(info),
            model_name=_model_name(info),
            logical_cpus=cpus,
            cores=tuple(dict.fromkeys(tuple(cpu for cpu in siblings[own] if cpu in siblings) for own in cpus)),
            smt=any(len(group) > 1 for group in siblings.values()),
            numa_nodes=_numa_nodes(root, cpus),
            caches=_caches(root, cpus),
            isa=_isa(info),
            cpu_quota=limits.cpu_quota,
            ram_bytes=ram_bytes,
            memory_bytes=min(ram_bytes, limits.memory_bytes or ram_bytes),
        )

    @property
    def physical_cores(self) -> int:
        """Physical cores behind the logical CPUs this process may run on."""
        return len(self.cores)

    @property
    def thread_budget(self) -> int:
        """Threads that compute at the same time, over all pools: one per physical core, within the quota, at least 1.

        A quota is rounded down: three threads on a quota of 2.5 CPUs stall for a part of every period. SMT siblings
        share the vector units that matrix products are bound by, so they do not count.
        """
        quota = math.inf if self.cpu_quota is None else self.cpu_quota
        return max(1, math.floor(min(self.physical_cores, quota)))

    def budget(self, config: MachineConfig) -> Budget:
        """The budget under `config`: its threads replace the measured ones, its memory can only lower the limit."""
        return Budget(config.threads or self.thread_budget, min(self.memory_bytes, config.memory or self.memory_bytes))

    def cpu_shares(self, num_workers: int) -> tuple[frozenset[int] | None, ...]:
        """CPUs to pin each of `num_workers` processes to, whole cores each and neighbours together.

        None (do not pin) where pinning would hurt: fewer cores than workers, or a quota below the cores, where the
        kernel must stay free to choose.
        """
        if num_workers < 1 or self.thread_budget < max(num_workers, self.physical_cores):
            return (None,) * num_workers
        bounds = [index * self.physical_cores // num_workers for index in range(num_workers + 1)]
        cores = self._cores_by_node()
        return tuple(frozenset(cpu for core in cores[start:stop] for cpu in core) for start, stop in pairwise(bounds))

    def to_json(self) -> JsonObject:
        """Every field, with the two derived numbers, as JSON values."""
        return {
            **asdict(self),
            "logical_cpus": list(self.logical_cpus),
            "cores": [list(core) for core in self.cores],
            "numa_nodes": [list(node) for node in self.numa_nodes],
            "isa": list(self.isa),
            "physical_cores": self.physical_cores,
            "thread_budget": self.thread_budget,
        }

    def describe(self) -> tuple[tuple[str, str], ...]:
        """Rows of (what, value) for a table, in plain words."""
        quota = "none" if self.cpu_quota is None else f"{self.cpu_quota:g} CPUs"
        limited = self.memory_bytes < self.ram_bytes
        return (
            ("processor", f"{self.model_name} ({self.architecture})"),
            ("CPUs usable here", f"{len(self.logical_cpus)} ({format_cpu_list(self.logical_cpus)})"),
            ("physical cores", f"{self.physical_cores}{' (with SMT siblings)' if self.smt else ''}"),
            ("NUMA nodes", str(len(self.numa_nodes))),
            ("caches", ", ".join(f"{name} {_readable(size)}" for name, size in self.caches.items()) or "unknown"),
            ("instruction sets", " ".join(self.isa) or "baseline"),
            ("CPU quota", quota),
            ("memory", f"{_readable(self.memory_bytes)}{' (cgroup limit)' if limited else ''}"),
            ("thread budget", str(self.thread_budget)),
        )

    def _cores_by_node(self) -> list[tuple[int, ...]]:
        node_of = {cpu: index for index, node in enumerate(self.numa_nodes) for cpu in node}
        return sorted(self.cores, key=lambda core: node_of.get(core[0], 0))


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's list format: `0-2,8` is (0, 1, 2, 8)."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.strip():
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def format_cpu_list(cpus: tuple[int, ...]) -> str:
    """(0, 1, 2, 8) as `0-2,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _read_cpuinfo(root: Path) -> Mapping[str, str]:
    """The first processor's block; keys are the kernel's."""
    pairs = (line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines())
    info: dict[str, str] = {}
    for key, _, value in pairs:
        info.setdefault(key.strip(), value.strip())
    return info


def _architecture(info: Mapping[str, str]) -> str:
    if "flags" in info:
        return "x86_64" if "lm" in info["flags"].split() else "i686"
    if "Features" in info:
        return "aarch64" if "asimd" in info["Features"].split() else "arm"
    return platform.machine()


def _model_name(info: Mapping[str, str]) -> str:
    if "model name" in info:
        return info["model name"]
    core = info.get("CPU implementer", ""), info.get("CPU part", "")
    return _ARM_CORES.get(core) or (f"ARM implementer {core[0]} part {core[1]}" if all(core) else "unknown")


def _isa(info: Mapping[str, str]) -> tuple[str, ...]:
    flags = set(info.get("flags", "").split())
    features = set(info.get("Features", "").split())
    arm = dict.fromkeys(name for flag, name in _ARM_ISA.items() if flag in features)
    return (*(flag for flag in _X86_ISA if flag in flags), *arm)


def _allowed_cpus(root: Path) -> tuple[int, ...]:
    """The affinity mask; it already lies within the cpuset of the process's cgroup."""
    for line in _text(root / "proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return parse_cpu_list(line.partition(":")[2])
    return parse_cpu_list(_text(root / "sys/devices/system/cpu/online")) or tuple(range(os.cpu_count() or 1))


def _siblings(root: Path, cpu: int) -> tuple[int, ...]:
    """Logical CPUs on the same physical core, `cpu` among them."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    for name in ("core_cpus_list", "thread_siblings_list"):  # the second is its name before Linux 5.3
        if group := parse_cpu_list(_text(topology / name)):
            return group
    return (cpu,)


def _numa_nodes(root: Path, cpus: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Usable CPUs by node; nodes without any are left out."""
    directories = sorted((root / "sys/devices/system/node").glob("node[0-9]*"), key=lambda path: int(path.name[4:]))
    listed = (parse_cpu_list(_text(directory / "cpulist")) for directory in directories)
    usable = tuple(tuple(cpu for cpu in node if cpu in cpus) for node in listed)
    return tuple(node for node in usable if node) or (cpus,)


def _caches(root: Path, cpus: tuple[int, ...]) -> Mapping[str, int]:
    """Bytes of one instance of each cache by name (L1d, L1i, L2, L3); the largest where cores differ."""
    sizes: dict[str, int] = {}
    for cpu in cpus:
        for name, size in _cpu_caches(root / f"sys/devices/system/cpu/cpu{cpu}/cache"):
            sizes[name] = max(size, sizes.get(name, 0))
    return dict(sorted(sizes.items()))


def _cpu_caches(directory: Path) -> Iterator[tuple[str, int]]:
    for index in directory.glob("index[0-9]*"):
        level, kind, size = (_text(index / name).strip() for name in ("level", "type", "size"))
        if level and size[:-1].isdigit() and size[-1] in _SIZES:
            letter = {"Data": "d", "Instruction": "i"}.get(kind, "")
            yield f"L{level}{letter}", int(size[:-1]) * _SIZES[size[-1]]


def _ram_bytes(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _readable(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def _text(path: Path) -> str:
    # Sandboxes and old kernels lack some of these files; every caller has an answer for "not told".
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
