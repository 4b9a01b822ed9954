"""`Machine` tells what this process may use of a computer, from real trees and from ones written down here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.machine.config import MachineConfig
from corelane.machine.cpu import Machine, format_cpu_list, parse_cpu_list
from tests.machine.trees import ARM_CPUINFO, machine_files, v2_files, write_tree

FOUR_CORES_SMT = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}


def test_this_machine_is_detected() -> None:
    """On the machine that runs the test, affinity and memory agree with what the system calls say."""
    machine = Machine.detect()
    assert set(machine.logical_cpus) == os.sched_getaffinity(os.getpid())
    assert machine.ram_bytes >= machine.memory_bytes > 2**20
    assert 1 <= machine.thread_budget <= len(machine.logical_cpus)
    assert sorted(cpu for core in machine.cores for cpu in core) == sorted(machine.logical_cpus)


def test_an_affinity_change_of_this_process_is_seen() -> None:
    """A process restricted to one CPU has one core and a budget of one thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        machine = Machine.detect()
    finally:
        os.sched_setaffinity(0, before)
    assert (machine.logical_cpus, machine.thread_budget) == ((min(before),), 1)


@pytest.mark.parametrize(
    ("cpu_max", "budget"),
    [
        ("250000 100000", 2),
        ("300000 100000", 3),
        ("299999 100000", 2),
        ("50000 100000", 1),
        ("800000 100000", 4),
        ("max 100000", 4),
    ],
)
def test_the_budget_is_the_quota_rounded_down_within_the_cores(tmp_path: Path, cpu_max: str, budget: int) -> None:
    """On four cores: a quota of 2.5 gives 2 threads, half a CPU still gives one, and a large quota gives the cores."""
    write_tree(tmp_path, machine_files() | v2_files("/", {"cpu.max": cpu_max}))
    assert Machine.detect(tmp_path).thread_budget == budget


@pytest.mark.parametrize(
    ("allowed", "cores", "budget"),
    [
        ("0-7", ((0, 4), (1, 5), (2, 6), (3, 7)), 4),
        ("0-1,4-5", ((0, 4), (1, 5)), 2),
        ("2,6", ((2, 6),), 1),
        ("0,5", ((0,), (5,)), 2),
    ],
)
def test_smt_siblings_share_a_core_and_one_thread(
    tmp_path: Path, allowed: str, cores: tuple[tuple[int, ...], ...], budget: int
) -> None:
    """Logical CPUs are grouped by core within the affinity mask, and the budget counts cores."""
    write_tree(tmp_path, machine_files(allowed, siblings=FOUR_CORES_SMT))
    machine = Machine.detect(tmp_path)
    assert (machine.cores, machine.physical_cores, machine.thread_budget) == (cores, len(cores), budget)
    assert machine.smt


def test_old_kernels_call_the_sibling_list_otherwise(tmp_path: Path) -> None:
    """Before Linux 5.3 the file is `thread_siblings_list`."""
    topology = {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "0-1\n" for cpu in (0, 1)}
    write_tree(tmp_path, machine_files("0-1") | topology)
    assert Machine.detect(tmp_path).cores == ((0, 1),)


def test_numa_nodes_hold_only_usable_cpus(tmp_path: Path) -> None:
    """Nodes come in numeric order, cut to the affinity mask; a node without a usable CPU is left out."""
    nodes = {f"sys/devices/system/node/node{n}/cpulist": f"{2 * n}-{2 * n + 1}\n" for n in (0, 1, 2, 10)}
    write_tree(tmp_path, machine_files("1,4-5,20-21") | nodes)
    assert Machine.detect(tmp_path).numa_nodes == ((1,), (4, 5), (20, 21))


def test_caches_are_bytes_of_one_instance(tmp_path: Path) -> None:
    """Each level by name; where cores differ, the largest; instruction and data caches apart."""
    caches = {
        (0, 0): ("1", "Data", "32K"),
        (0, 1): ("1", "Instruction", "64K"),
        (0, 2): ("2", "Unified", "512K"),
        (0, 3): ("3", "Unified", "32M"),
        (1, 0): ("1", "Data", "48K"),
    }
    files = {
        f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{key}": f"{value}\n"
        for (cpu, index), values in caches.items()
        for key, value in zip(("level", "type", "size"), values, strict=True)
    }
    write_tree(tmp_path, machine_files("0-1") | files)
    expected = {"L1d": 48 * 1024, "L1i": 64 * 1024, "L2": 512 * 1024, "L3": 32 * 2**20}
    assert Machine.detect(tmp_path).caches == expected


def test_x86_processor(tmp_path: Path) -> None:
    """The model and the instruction sets that matter come from the first processor's block."""
    machine = Machine.detect(write_tree(tmp_path, machine_files()))
    assert (machine.architecture, machine.model_name) == ("x86_64", "Intel(R) Xeon(R) Platinum 8480+")
    expected = ("sse4_2", "avx", "fma", "avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16")
    assert machine.isa == expected


def test_arm_processor(tmp_path: Path) -> None:
    """ARM tells numbers instead of a name, and features under other names."""
    machine = Machine.detect(write_tree(tmp_path, machine_files(cpuinfo=ARM_CPUINFO)))
    assert (machine.architecture, machine.model_name) == ("aarch64", "ARM Neoverse-V1")
    assert machine.isa == ("neon", "fp16", "dotprod", "i8mm", "bf16", "sve")


def test_an_unknown_arm_core_is_named_by_its_numbers(tmp_path: Path) -> None:
    """A core that is not in our list is still identified."""
    info = ARM_CPUINFO.replace("0xd40", "0xfff")
    machine = Machine.detect(write_tree(tmp_path, machine_files(cpuinfo=info)))
    assert machine.model_name == "ARM implementer 0x41 part 0xfff"


@pytest.mark.parametrize(("limit", "expected"), [("1073741824", 2**30), ("max", 4 * 2**30), (str(2**40), 4 * 2**30)])
def test_memory_is_the_smaller_of_ram_and_limit(tmp_path: Path, limit: str, expected: int) -> None:
    """4 GiB of RAM under a limit of 1 GiB, under none, and under one larger than the RAM."""
    write_tree(tmp_path, machine_files(ram_kib=4 * 2**20) | v2_files("/", {"memory.max": limit}))
    machine = Machine.detect(tmp_path)
    assert (machine.ram_bytes, machine.memory_bytes) == (4 * 2**30, expected)


def test_a_tree_that_tells_nothing_still_gives_a_machine(tmp_path: Path) -> None:
    """In a sandbox without `/proc` and `/sys` the answer is modest, not an exception."""
    machine = Machine.detect(tmp_path)
    assert machine.thread_budget >= 1
    assert (machine.cpu_quota, machine.caches, machine.isa) == (None, {}, ())


def test_the_configuration_sets_threads_and_lowers_memory(tmp_path: Path) -> None:
    """Configured threads replace the measured ones; configured memory cannot exceed what there is."""
    machine = Machine.detect(write_tree(tmp_path, machine_files(ram_kib=2**20)))
    assert machine.budget(MachineConfig()).threads == 4
    assert machine.budget(MachineConfig()).memory_bytes == 2**30
    assert machine.budget(MachineConfig.model_validate({"threads": 3, "memory": "512MiB"})).memory_bytes == 2**29
    assert machine.budget(MachineConfig.model_validate({"threads": 3, "memory": "64GiB"})).memory_bytes == 2**30
    assert machine.budget(MachineConfig(threads=3)).threads == 3


def test_workers_get_whole_cores_of_one_node(tmp_path: Path) -> None:
    """Two workers on four SMT cores in two nodes: each gets one node's cores, siblings included, none shared."""
    nodes = {
        "sys/devices/system/node/node0/cpulist": "0,2,4,6\n",
        "sys/devices/system/node/node1/cpulist": "1,3,5,7\n",
    }
    machine = Machine.detect(write_tree(tmp_path, machine_files("0-7", siblings=FOUR_CORES_SMT) | nodes))
    assert machine.cpu_shares(2) == (frozenset({0, 2, 4, 6}), frozenset({1, 3, 5, 7}))
    assert machine.cpu_shares(1) == (frozenset(range(8)),)
    assert machine.cpu_shares(3) == (frozenset({0, 4}), frozenset({2, 6}), frozenset({1, 3, 5, 7}))


def test_workers_are_not_pinned_where_it_would_hurt(tmp_path: Path) -> None:
    """More workers than cores, or a quota below the cores: the kernel stays free to choose."""
    write_tree(tmp_path, machine_files() | v2_files("/", {"cpu.max": "250000 100000"}))
    assert Machine.detect(tmp_path).cpu_shares(2) == (None, None)
    write_tree(tmp_path, v2_files("/", {"cpu.max": "max 100000"}))
    assert Machine.detect(tmp_path).cpu_shares(5) == (None,) * 5


def test_json_and_table_tell_the_budget(tmp_path: Path) -> None:
    """`to_json` survives JSON unchanged and the table says quota, limit and budget in words."""
    write_tree(tmp_path, machine_files() | v2_files("/", {"cpu.max": "250000 100000", "memory.max": "1073741824"}))
    machine = Machine.detect(tmp_path)
    assert json.loads(json.dumps(machine.to_json())) == machine.to_json()
    assert machine.to_json()["thread_budget"] == 2
    rows = dict(machine.describe())
    assert (rows["CPU quota"], rows["memory"]) == ("2.5 CPUs", "1 GiB (cgroup limit)")
    assert (rows["thread budget"], rows["CPUs usable here"]) == ("2", "4 (0-3)")


@given(st.sets(st.integers(min_value=0, max_value=300), max_size=40))
def test_cpu_lists_read_and_write_the_same(cpus: set[int]) -> None:
    """Any set of CPUs survives the kernel's list format."""
    assert parse_cpu_list(format_cpu_list(tuple(cpus))) == tuple(sorted(cpus))
