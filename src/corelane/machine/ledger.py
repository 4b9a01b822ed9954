"""The metrics of a supervisor's workers as one exposition in which a counter never goes back.

Owns what was last read from each worker, and nothing else. A worker that is alive but does not answer is represented
by its last counters; of one that died the counters stay for good, and its successor's are added. Gauges of both go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from corelane.machine.worker_socket import gather, socket_path
from corelane.observe.merge import counters_only, merge_expositions

_DEAD = "dead-workers"  # the name of those no longer there; never seen outside, since only gauges are labelled


class MetricsLedger:
    """Reads workers' sockets in `socket_directory` on demand; `own`, if given, renders the supervisor's own metrics.

    Safe to call from any thread. Readers take turns (the order of two readings must be the order of their answers); the
    run loop's `begin` and `retire` never wait for a reading.
    """

    def __init__(self, socket_directory: Path, own: Callable[[], bytes] | None = None) -> None:
        self._socket_directory = socket_directory
        self._own = own
        self._turn = threading.Lock()
        self._lock = threading.Lock()  # around the two below
        self._last: dict[tuple[str, int], bytes] = {}  # counters of each living (name, pid) as last read
        self._dead: list[bytes] = []

    def begin(self, name: str, pid: int) -> None:
        """A worker process has started."""
        with self._lock:
            self._last[name, pid] = b""

    def retire(self, name: str, pid: int) -> None:
        """It has ended: what was last read of it is kept."""
        with self._lock:
            self._dead.append(self._last.pop((name, pid)))

    def render(self, timeout_s: float = 1.0) -> bytes:
        """The merged exposition now, waiting at most `timeout_s` seconds for workers.

        Raises `DataError` naming the worker whose text is no exposition.
        """
        with self._turn:
            with self._lock:
                living = list(self._last)
            texts = gather({name: socket_path(self._socket_directory, name) for name, _ in living}, timeout_s=timeout_s)
            counters = {name: counters_only(text, name) for name, text in texts.items()}
            with self._lock:
                for name, pid in living:
                    if name in counters and (name, pid) in self._last:
                        self._last[name, pid] = counters[name]
                # Who died during the reading has been retired with the reading before: the new one must not be shown.
                shown = {
                    name: texts.get(name, last) for (name, pid), last in self._last.items() if (name, pid) in living
                }
                dead = list(self._dead)
            folded = merge_expositions({str(index): text for index, text in enumerate(dead)})
            with self._lock:
                self._dead[: len(dead)] = [folded]  # only `retire` touches the list meanwhile, and it appends
            own = {"supervisor": self._own()} if self._own else {}
            return merge_expositions({**own, **shown, _DEAD: folded})
