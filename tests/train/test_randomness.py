"""The process's random generators, saved and put back."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch

from corelane.core.errors import StateError
from corelane.train import randomness


def draw() -> list[Any]:
    return [torch.rand(3).tolist(), np.random.normal(size=3).tolist(), random.random(), random.gauss(0, 1)]


def test_generators_go_on_where_they_were() -> None:
    """After a restore, through JSON, all three generators draw what they would have drawn."""
    randomness.seed_generators(5)
    draw()
    state = json.loads(json.dumps(randomness.capture()))
    expected = draw()
    randomness.seed_generators(6)
    assert draw() != expected
    randomness.restore(state)
    assert draw() == expected


def test_seeding_is_complete() -> None:
    """Equal seeds, also very large ones, give equal draws from all three."""
    drawn = []
    for _ in range(2):
        randomness.seed_generators(2**40 + 1)
        drawn.append(draw())
    assert drawn[0] == drawn[1]


def test_an_unknown_version_is_refused() -> None:
    """State of another release is not guessed at."""
    with pytest.raises(StateError, match="version"):
        randomness.restore({**randomness.capture(), "version": 2})
