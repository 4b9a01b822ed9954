"""How work is laid out on a machine: pure functions of what it is, so that they hold on machines nobody has here.

Streams are calls that run at the same time, each on threads of its own. A call's threads wait for each other, so they
lie on one memory node where they fit; hardware threads that share a core count once.
"""

from __future__ import annotations

from corelane.machine.cpu import Machine


def stream_shapes(machine: Machine, budget: int) -> tuple[tuple[int, int], ...]:
    """Pairs of (streams, threads of each) within `budget` threads that are worth timing, the most streams first.

    For each power of two of threads, and all of the budget: one stream, and as many as there is room for. 64 cores make
    14 pairs.
    """
    sizes = sorted({budget, *(size for power in range(12) if (size := 2**power) <= budget)})
    shapes = [(streams_for(machine, budget, threads), threads) for threads in sizes] + [(1, size) for size in sizes]
    return tuple(dict.fromkeys(shapes))


def streams_for(machine: Machine, budget: int, threads: int) -> int:
    """How many streams of `threads` threads there is room for: none of them on two memory nodes, unless it must be."""
    room = budget // threads
    sizes = [len({core for core in machine.cores if core[0] in node}) for node in machine.numa_nodes]
    if len(sizes) < 2 or threads > max(sizes):
        return max(1, room)
    return max(1, min(room, sum(size // threads for size in sizes)))


def stream_cpus(machine: Machine, streams: int, threads: int) -> tuple[frozenset[int] | None, ...]:
    """CPUs to pin each stream to, whole cores each; None (leave it to the kernel) where pinning would hurt.

    That is under a quota below the cores, and where there are fewer cores than threads.
    """
    if machine.thread_budget < max(machine.physical_cores, streams * threads):
        return (None,) * streams
    cores = [[core for core in machine.cores if core[0] in node] for node in machine.numa_nodes]
    if any(len(node) >= threads for node in cores):
        cores = [node[: len(node) - len(node) % threads] for node in cores]  # no stream on two nodes
    flat = [core for node in cores for core in node]
    if len(flat) < streams * threads:
        return (None,) * streams
    return tuple(
        frozenset(cpu for core in flat[index * threads : (index + 1) * threads] for cpu in core)
        for index in range(streams)
    )


def node_of(machine: Machine, cpus: frozenset[int]) -> int | None:
    """The one memory node that `cpus` lie on; None where there are several."""
    nodes = {index for index, node in enumerate(machine.numa_nodes) if cpus & set(node)}
    return nodes.pop() if len(nodes) == 1 else None
