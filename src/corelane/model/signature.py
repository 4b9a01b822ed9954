"""The signature of a package: which tensors a client may send and which it gets back, in Open Inference Protocol terms.

Inputs are the raw columns of the schema, never the prepared tensors. `serve` shows it as model metadata; the pipeline
still checks every value. It is derived from the pipeline (for somebody else's network, with the outputs that its graph
has) and written into package.json.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from corelane.core.types import JsonObject
from corelane.data.schema import Column
from corelane.data.target import TargetEncoder
from corelane.data.tensor_pipeline import AnyPipeline
from corelane.model.decode import LABEL, LABELS, PROBABILITIES, VALUE

MATRIX = "features"
"""Name of the one tensor that may stand for all columns where every one of them is numeric."""


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """Name, OIP datatype and shape of one tensor; -1 is the number of rows, or a length that is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs by column in schema order, outputs, and `matrix`: one tensor that may stand for all inputs, or None."""

    inputs: tuple[TensorMeta, ...]
    outputs: tuple[TensorMeta, ...]
    matrix: TensorMeta | None

    @classmethod
    def of(cls, pipeline: AnyPipeline, outputs: tuple[TensorMeta, ...] = ()) -> Signature:
        """The signature of what `pipeline` accepts and its target encoder gives back, without one a graph `outputs`."""
        columns = pipeline.schema.columns
        is_matrix = all(column.kind == "numeric" for column in columns)
        return cls(
            inputs=tuple(_input(column) for column in columns),
            outputs=outputs if pipeline.target is None else _outputs(pipeline.target),
            matrix=TensorMeta(MATRIX, "FP64", (-1, len(columns))) if is_matrix else None,
        )

    def to_json(self) -> JsonObject:
        """Plain JSON; shapes are lists."""
        return asdict(self)


def _input(column: Column) -> TensorMeta:
    match column.kind:
        case "numeric":
            return TensorMeta(column.name, "FP64", (-1,))
        case "categorical" | "date":
            return TensorMeta(column.name, "BYTES", (-1,))
        case "tensor" if column.vocabulary is not None:
            return TensorMeta(column.name, "INT64", (-1, *column.shape))
        case "tensor":
            return TensorMeta(column.name, "FP32", (-1, *column.shape))
        case "array":
            return TensorMeta(column.name, datatype_of(str(column.dtype)), (-1, *column.shape))
        case "image" if column.encoded:
            return TensorMeta(column.name, "BYTES", (-1,))
        case "image":
            size = (-1, -1) if column.resize else column.shape[:2]
            return TensorMeta(column.name, "UINT8", (-1, *size, column.shape[2]))


def datatype_of(dtype: str) -> str:
    """The protocol's name for NumPy's type `dtype`: FP32 for float32, INT64 for int64."""
    return dtype.upper().replace("FLOAT", "FP")


def _outputs(target: TargetEncoder) -> tuple[TensorMeta, ...]:
    if target.task == "regression":
        return (TensorMeta(VALUE, "FP64", (-1,)),)
    chances = TensorMeta(PROBABILITIES, "FP32", (-1, len(target.labels)))
    if target.task == "multi_label":
        return (TensorMeta(LABELS, "BOOL", chances.shape), chances)
    return (TensorMeta(LABEL, "INT64" if target.label_type == "int" else "BYTES", (-1,)), chances)
