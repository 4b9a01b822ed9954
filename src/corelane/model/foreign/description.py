"""What a foreign graph takes and gives, as the process that looked at it says in JSON. Neither torch nor onnx here."""

from __future__ import annotations

from collections.abc import Sequence

from corelane.core.config import Section
from corelane.core.errors import ConfigError
from corelane.data.schema import Column
from corelane.model.batch import REJECTED, ROW
from corelane.model.signature import TensorMeta, datatype_of


class ForeignTensor(Section):
    """One input or output: NumPy's name for its type, and the shape of one row, -1 where a length is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class ForeignGraph(Section):
    """The ends of a graph whose first axis is the rows, the version of ONNX's operators it uses, and its size."""

    inputs: tuple[ForeignTensor, ...]
    outputs: tuple[ForeignTensor, ...]
    opset: int
    num_nodes: int

    def columns(self) -> tuple[Column, ...]:
        """A column for each input. Raises `ConfigError` for a name or shape that no column can have."""
        return tuple(Column(one.name, "array", one.shape, nullable=False, dtype=one.dtype) for one in self.inputs)

    def answers(self) -> tuple[TensorMeta, ...]:
        """The outputs as a signature has them. Raises `ConfigError` for a name that a table of answers has taken."""
        for one in self.outputs:
            if one.name in (ROW, REJECTED):
                raise ConfigError(f"an output must not be named {ROW} or {REJECTED}, got {one.name!r}; rename it")
        return tuple(TensorMeta(one.name, datatype_of(one.dtype), (-1, *one.shape)) for one in self.outputs)


def neutral_shape(one: ForeignTensor, num_rows: int, free: int) -> Sequence[int]:
    """The shape of `num_rows` rows of an input, each free length of them `free`."""
    return [num_rows, *(free if length < 0 else length for length in one.shape)]
