"""The order of the rows in an epoch, and the mixing of integers below it: pure functions of (seed, epoch, position).

No generator is kept anywhere, so the place in the data is three integers and resuming is instant. The mixing function
is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). It is
written here, and not taken from a library's generator, because a library may change its streams between releases.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from corelane.core.types import IntArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def epoch_order(seed: int, epoch: int, num_rows: int) -> IntArray:
    """The order in which epoch `epoch` visits `num_rows` rows: a permutation, int64 [num_rows]."""
    keys = mix(np.arange(num_rows, dtype=np.int64), "order", seed, epoch)
    return np.argsort(keys).astype(np.int64, copy=False)  # keys never tie, see `mix`: any sort gives the same order


def mix(positions: IntArray, purpose: str, *numbers: int) -> NDArray[np.uint64]:
    """A well mixed number for each of `positions` [n], another for every purpose and numbers: uint64 [n].

    For one purpose and one choice of numbers the mapping is one to one, so different positions never tie.
    """
    text = ":".join([purpose, *map(str, numbers)])
    offset = np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
    mixed = positions.astype(np.uint64)
    mixed *= _GOLDEN  # wraps, as is meant
    mixed += offset
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed
