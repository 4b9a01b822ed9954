"""Several runtimes of one network behind one: each call takes a free one, and waits where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from queue import SimpleQueue

from corelane.core.types import Array, NamedArrays
from corelane.model.runtimes.base import GraphRuntime


class Streams:
    """Owns `runtimes` of the same graph, and nothing else. As many calls run at once as there are of them.

    For libraries whose threads belong to a session: calls that share a session's threads would wait for each other in
    every layer.
    """

    def __init__(self, runtimes: Iterable[GraphRuntime]) -> None:
        self._runtimes = list(runtimes)
        self.inputs = self._runtimes[0].inputs
        self.outputs = self._runtimes[0].outputs
        self._free: SimpleQueue[GraphRuntime] = SimpleQueue()
        for runtime in self._runtimes:
            self._free.put(runtime)

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        """As the runtimes' own."""
        runtime = self._free.get()
        try:
            return runtime.run(inputs)
        finally:
            self._free.put(runtime)

    def close(self) -> None:
        """Close them all."""
        for runtime in self._runtimes:
            runtime.close()
