"""Where work lies on machines that nobody has here, as pure functions of what they are."""

from __future__ import annotations

import pytest

from corelane.machine.cpu import Machine
from corelane.machine.placement import node_of, stream_cpus, stream_shapes, streams_for


def machine(*nodes: int, smt: bool = False, quota: float | None = None) -> Machine:
    """A machine with so many cores on each memory node; the second hardware threads come after all first ones."""
    num_cores = sum(nodes)
    cores = [(core, core + num_cores) if smt else (core,) for core in range(num_cores)]
    starts = [sum(nodes[:index]) for index in range(len(nodes))]
    by_node = tuple(
        tuple(cpu for core in cores[start : start + size] for cpu in core)
        for start, size in zip(starts, nodes, strict=True)
    )
    return Machine(
        architecture="x86_64",
        model_name="described",
        logical_cpus=tuple(sorted(cpu for core in cores for cpu in core)),
        cores=tuple(cores),
        smt=smt,
        numa_nodes=by_node,
        caches={},
        isa=(),
        cpu_quota=quota,
        ram_bytes=1 << 40,
        memory_bytes=1 << 40,
    )


BIG = machine(32, 32, smt=True)


def test_a_small_machine_is_tried_whole() -> None:
    """Two cores: two streams of one thread, one of two, one of one."""
    assert set(stream_shapes(machine(2), 2)) == {(2, 1), (1, 2), (1, 1)}
    assert stream_shapes(machine(1), 1) == ((1, 1),)


def test_64_cores_make_tens_of_shapes() -> None:
    """No shape takes more threads than the budget; hardware threads that share a core count once."""
    shapes = stream_shapes(BIG, BIG.thread_budget)
    assert BIG.thread_budget == 64
    assert 10 <= len(shapes) <= 20
    assert {(64, 1), (2, 32), (1, 64), (1, 1)} <= set(shapes)
    assert all(streams * threads <= 64 for streams, threads in shapes)


def test_a_quota_bounds_the_threads() -> None:
    """2.5 CPUs are two threads, half a CPU is one, whatever the cores; nothing is pinned under a quota."""
    limited = machine(32, 32, smt=True, quota=2.5)
    assert limited.thread_budget == 2
    assert set(stream_shapes(limited, limited.thread_budget)) == {(2, 1), (1, 2), (1, 1)}
    assert stream_cpus(limited, 2, 1) == (None, None)
    assert machine(8, quota=0.5).thread_budget == 1


@pytest.mark.parametrize(("threads", "streams"), [(1, 10), (2, 4), (3, 3), (4, 2), (6, 1), (8, 1)])
def test_no_stream_lies_on_two_nodes(threads: int, streams: int) -> None:
    """Nodes of four and six cores: of five streams of two threads... as many as fit on a node each; one where a stream
    needs more than a node has.
    """
    uneven = machine(4, 6)
    expected = {2: 5}.get(threads, streams)
    assert streams_for(uneven, 10, threads) == expected


def test_streams_are_pinned_to_whole_cores_of_one_node() -> None:
    """Both hardware threads of a core, no core twice, and each stream on one memory node."""
    cpus = stream_cpus(BIG, 8, 8)
    sets = [one for one in cpus if one is not None]
    assert len(sets) == 8
    assert len(frozenset().union(*sets)) == 128
    assert [node_of(BIG, one) for one in sets] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert stream_cpus(machine(3, 3), 2, 2) == (frozenset({0, 1}), frozenset({3, 4}))


def test_a_stream_larger_than_a_node_takes_what_it_needs() -> None:
    """64 threads on two nodes of 32 cores lie on both; more streams than cores are not pinned."""
    (cpus,) = stream_cpus(BIG, 1, 64)
    assert cpus is not None
    assert (len(cpus), node_of(BIG, cpus)) == (128, None)
    assert stream_cpus(machine(2), 2, 2) == (None, None)
