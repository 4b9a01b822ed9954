"""The process's random generators (torch, NumPy, Python) as JSON: what dropout and a user's module draw from.

Corelane itself draws nothing from them: order, split and initial weights are pure functions of the seed.
"""

from __future__ import annotations

import base64
import random
from typing import Any

import numpy as np
import torch

from corelane.core.errors import StateError
from corelane.core.types import JsonObject

VERSION = 1


def seed_generators(seed: int) -> None:
    """Start all three generators from `seed`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def capture() -> JsonObject:
    """The state of all three generators."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    python_version, words, gauss = random.getstate()
    return {
        "version": VERSION,
        "torch": _encode(torch.get_rng_state().numpy().tobytes()),
        "numpy": [name, _encode(np.asarray(keys).tobytes()), int(position), int(has_gauss), float(cached)],
        "python": [python_version, list(words), gauss],
    }


def restore(state: JsonObject) -> None:
    """Take `state` over. Raises `StateError` when its version is unknown."""
    if state.get("version") != VERSION:
        raise StateError(f"the random state must have version {VERSION}, got {state.get('version')!r}; start a new run")
    torch.set_rng_state(torch.frombuffer(bytearray(_decode(state["torch"])), dtype=torch.uint8))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.frombuffer(_decode(keys), dtype=np.uint32), position, has_gauss, cached))
    python_version, words, gauss = state["python"]
    random.setstate((python_version, tuple(words), gauss))


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: Any) -> bytes:
    return base64.b64decode(text)
