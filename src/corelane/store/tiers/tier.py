"""What every tier of the cache promises, and the counts that it keeps.

`tests/conformance/test_cache_tiers.py` holds all of them to it.

A key is `<kind>/<name>` (a name alone is of the kind `arrays`); whoever makes it puts everything into it that the value
depends on: versions of the code, parameters, the identity of the data. So a value never changes, and a lost one is made
again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from corelane.core.types import Array

Arrays: TypeAlias = Mapping[str, Array]
"""Named arrays, read-only when they come out of a tier."""

Tell: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Who hears of what happened: an event's name and its fields."""


def tell_nobody(event: str, fields: Mapping[str, Any]) -> None:
    """A `Tell` that forgets."""


class CacheTier(Protocol):
    """A bounded mapping that may forget anything at any time, and never gives what was not put. Thread-safe."""

    def get(self, key: str) -> Arrays | None:
        """What was put under `key`, bit for bit, or None. A broken value is a miss, and removed."""
        ...

    def put(self, key: str, arrays: Arrays) -> bool:
        """Keep copies of `arrays` under `key`, for which others may have to go; whether they are kept."""
        ...

    def remove(self, key: str) -> None:
        """Forget `key`; an unknown one is fine."""
        ...

    def close(self) -> None:
        """Give back what the tier holds of this process; may be called twice."""
        ...


class NoTier:
    """The tier that is switched off: it keeps nothing and has nothing."""

    def can_keep(self, num_bytes: int) -> bool:  # noqa: ARG002
        """No."""
        return False

    def get(self, key: str) -> Arrays | None:  # noqa: ARG002
        """Nothing."""
        return None

    def put(self, key: str, arrays: Arrays) -> bool:  # noqa: ARG002
        """Keep nothing."""
        return False

    def remove(self, key: str) -> None:
        """Nothing is there."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class TierCounts:
    """How often a tier was asked and had it (`hits`) or not (`misses`), gave a value up for others (`evictions`), and
    found one broken (`broken`, each of them a miss too), since the process began.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    broken: int = 0


@dataclass(frozen=True, slots=True)
class TierUsage:
    """What a tier holds: entries, their bytes, and its bound in bytes (None: unbounded)."""

    num_entries: int
    num_bytes: int
    limit_bytes: int | None


class TierMeter:
    """Counts for one tier; safe to use from several threads."""

    def __init__(self) -> None:
        self._counts = TierCounts()
        self._lock = threading.Lock()

    @property
    def counts(self) -> TierCounts:
        """The counts so far."""
        return self._counts

    def count(self, what: str, number: int = 1) -> None:
        """Raise the count `what`, a field of `TierCounts`."""
        with self._lock:
            self._counts = replace(self._counts, **{what: getattr(self._counts, what) + number})


def size_of(arrays: Arrays) -> int:
    """The bytes of all `arrays`."""
    return sum(array.nbytes for array in arrays.values())
