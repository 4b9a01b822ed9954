"""JSON schemas of a model's records, in and out, with an example of them: what `openapi.py` tells of each model.

A schema is that of JSON Schema 2020-12. It says what the pipeline is sure to refuse; whatever it lets through is still
checked value by value.
"""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from corelane.core.types import Array, JsonObject
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column
from corelane.data.stages.cast_text import MAX_TEXT_LENGTH
from corelane.data.stages.column import FREE
from corelane.model.decode import LABEL, LABELS, PROBABILITIES, VALUE
from corelane.model.package import ModelPackage
from corelane.model.signature import TensorMeta
from corelane.model.skew import raw_columns
from corelane.serve.pace import black_png, neutral_columns

MAX_LISTED = 100  # texts of a column that a reader is shown
MAX_EXAMPLE_BYTES = 64 << 10  # of a record; the pixels of a photograph would bury the rest of the document


def row_schema(model: ModelPackage) -> JsonObject:
    """A record of `model`: every column by its name, and nothing else."""
    known = _known(model)
    columns = model.pipeline.schema.columns
    return _strict({column.name: _column(column, known.get(column.name, ())) for column in columns})


def prediction_schema(model: ModelPackage) -> JsonObject:
    """What `model` answers for one record."""
    target = model.pipeline.target
    if target is None:
        return _strict({tensor.name: _nested(tensor.shape[1:], {}) for tensor in model.signature.outputs})
    if target.task == "regression":
        return _strict({VALUE: {"type": "number"}})
    labels = list(target.labels)
    chance = {"type": "number", "minimum": 0, "maximum": 1}
    chances = _strict(dict.fromkeys(labels, chance))
    if target.task == "multi_label":
        return _strict({LABELS: {"type": "array", "items": {"enum": labels}}, PROBABILITIES: chances})
    own = [int(label) for label in labels] if target.label_type == "int" else labels
    return _strict({LABEL: {"enum": own}, PROBABILITIES: chances})


def example_rows(model: ModelPackage, num_rows: int) -> list[JsonObject]:
    """Up to `num_rows` records that `model` answers: its golden rows, or made up where there are none or large ones.

    None where a record of it is large however it is made.
    """
    rows = [] if model.golden is None else _records(raw_columns(model.golden.rows.slice(0, num_rows)))
    if rows and _is_small(rows[0]):
        return rows
    columns = model.pipeline.schema.columns
    if sum(math.prod(column.shape) for column in columns if column.kind == "tensor") > MAX_EXAMPLE_BYTES:
        return []
    record = _neutral_record(columns, _known(model))
    return [record] * num_rows if _is_small(record) else []


def example_tensors(model: ModelPackage, rows: Sequence[JsonObject]) -> list[JsonObject]:
    """The same `rows` as inputs of the Open Inference Protocol."""
    signature = model.signature
    if signature.matrix is not None:
        names = [tensor.name for tensor in signature.inputs]
        data = [[row[name] for name in names] for row in rows]
        return [_tensor(signature.matrix, signature.matrix.datatype, [len(rows), len(names)], data)]
    return [_column_tensor(tensor, [row[tensor.name] for row in rows]) for tensor in signature.inputs]


def json_values(column: Array | list[Any]) -> list[Any]:
    """A raw column as JSON has it: null for a missing number, ISO text for a date, base64 for an image's bytes."""
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [_json_value(value) for value in values]


def _known(model: ModelPackage) -> Mapping[str, Sequence[str]]:
    return model.pipeline.categories if isinstance(model.pipeline, Pipeline) else {}


def _is_small(record: JsonObject) -> bool:
    return len(orjson.dumps(record)) <= MAX_EXAMPLE_BYTES


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return None if isinstance(value, float) and math.isnan(value) else value


def _records(columns: Mapping[str, Any]) -> list[JsonObject]:
    values = [json_values(column) for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


# --- schemas ----------------------------------------------------------------------------------------------------------


def _column(column: Column, known: Sequence[str]) -> JsonObject:
    match column.kind:
        case "numeric":
            return _or_null(column, _number(column))
        case "categorical":
            return _or_null(column, _text(column, known))
        case "date":
            told = "A date or time in ISO 8601; one without a zone is taken as it stands."
            return _or_null(column, {"type": "string", "description": told, "examples": ["2024-02-29"]})
        case "tensor" if column.vocabulary is not None:
            return _nested(column.shape, {"type": "integer", "minimum": 0, "maximum": column.vocabulary - 1})
        case "tensor":
            return _nested(column.shape, {"type": "number"})
        case "array":
            return _nested(column.shape, _element(str(column.dtype)))
        case "image":
            return _image(column)


def _number(column: Column) -> JsonObject:
    bounds = {"minimum": column.minimum, "maximum": column.maximum}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    if not given or column.outside == "reject":
        return {"type": "number", **given}
    told = ", ".join(f"{name} {bound:g}" for name, bound in given.items())
    becomes = "taken as the nearest of them" if column.outside == "clip" else "a missing value"
    return {"type": "number", "description": f"Bounds: {told}; a number beyond them is {becomes}."}


def _text(column: Column, known: Sequence[str]) -> JsonObject:
    schema: JsonObject = {"type": "string"}
    told = []
    is_refused = column.unreadable == "reject"
    if is_refused:
        schema["maxLength"] = MAX_TEXT_LENGTH
    if column.pattern is not None:
        told.append(f"The whole text must match the pattern {column.pattern} of Python's re.")
    if column.categories is not None and is_refused:
        schema["enum"] = list(column.categories)
        told += ["Spaces around the text do not count."] if column.trim else []
    elif column.categories or known:
        schema["examples"] = list((column.categories or known)[:MAX_LISTED])
        told.append("Any text; one that is not among the examples is taken as unknown.")
    return schema | ({"description": " ".join(told)} if told else {})


def _image(column: Column) -> JsonObject:
    size = (FREE, FREE) if column.resize else column.shape[:2]
    told = "any size" if column.resize else f"{column.shape[1]} by {column.shape[0]} pixels"
    file = {
        "type": "string",
        "contentEncoding": "base64",
        "description": f"An image file (PNG, JPEG, ...) of {told} in base64.",
    }
    if column.encoded:
        return file
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    return {"anyOf": [file, _nested((*size, column.shape[2]), pixel)]}


def _element(dtype: str) -> JsonObject:
    if dtype == "bool":
        return {"type": "boolean"}
    if dtype.startswith("float"):
        return {"type": "number"}
    limits = np.iinfo(dtype)
    return {"type": "integer", "minimum": limits.min, "maximum": limits.max}


def _nested(shape: Sequence[int], element: JsonObject) -> JsonObject:
    """Lists within lists as `shape` says, of `element`."""
    schema = element
    for length in reversed(shape):
        ends = {} if length == FREE else {"minItems": length, "maxItems": length}
        schema = {"type": "array", "items": schema, **ends}
    return schema


def _or_null(column: Column, schema: JsonObject) -> JsonObject:
    if not column.nullable:
        return schema
    listed = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, **listed, "type": [schema["type"], "null"]}


def _strict(properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# --- examples ---------------------------------------------------------------------------------------------------------


def _neutral_record(columns: Sequence[Column], known: Mapping[str, Sequence[str]]) -> JsonObject:
    """A record that means nothing, with a text that the model knows, and an image as a file."""
    [record] = _records(neutral_columns(tuple(columns), 1))
    for column in columns:
        if column.kind == "categorical":
            texts = column.categories or known.get(column.name, ())
            record[column.name] = next(iter(texts), None if column.nullable else "a")
        elif column.kind == "image":
            record[column.name] = base64.b64encode(black_png(column)).decode()
    return record


def _column_tensor(meta: TensorMeta, values: list[Any]) -> JsonObject:
    is_text = isinstance(values[0], str)
    shape = [len(values)] if is_text else list(np.shape(values))
    if values[0] is None:
        shape = [len(values)]
    return _tensor(meta, "BYTES" if is_text else meta.datatype, shape, values)


def _tensor(meta: TensorMeta, datatype: str, shape: list[int], data: list[Any]) -> JsonObject:
    return {"name": meta.name, "shape": shape, "datatype": datatype, "data": data}
