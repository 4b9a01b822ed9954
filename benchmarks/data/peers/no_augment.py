"""The same training without augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.data.cases import Case


def run(case: Case, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Examples per second of the CNN on images as they are."""
    from benchmarks.data.ours import train_cnn

    return {"value": train_cnn(case, inputs, {})}
