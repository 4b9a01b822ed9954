"""Types that every room speaks: JSON values, named arrays, the learning task, and what can save and load its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
JsonObject: TypeAlias = dict[str, Any]

Array: TypeAlias = NDArray[Any]
"""A NumPy array; docstrings give its shape and dtype."""

NamedArrays: TypeAlias = Mapping[str, Array]
"""Arrays by name, all with the same first dimension (rows)."""

FloatArray: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]

Task: TypeAlias = Literal["binary", "multi_class", "multi_label", "regression"]
"""What is learnt of a row: which of two labels it has, which of several, which ones of several, or a number."""

StatedTask: TypeAlias = Literal["classification", Task]
"""A task as a configuration may put it: `classification` is binary where training finds two labels, else multi_class.
"""


class Stateful(Protocol):
    """Something whose state can be taken and given back. The dict is JSON or tensors and carries `"version"`."""

    def state_dict(self) -> dict[str, Any]:
        """The state as a dict with a `"version"` entry."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take `state` over. Raises `StateError` when its version or a leaf does not fit."""
        ...
