"""What the JSON of a request says of a tensor, field by field, each looked at: name, shape, datatype, parameters.

What is not as it must be raises a `RequestError` that names the tensor.
"""

from __future__ import annotations

from typing import Any

from corelane.core.errors import RequestError
from corelane.core.types import JsonObject
from corelane.model.signature import TensorMeta
from corelane.serve.values import MAX_RANK, NUMBER_TYPES, check_integers, short
from corelane.web.tensors import INTEGER_TYPES, SIZE, TIMEOUT, TYPES

MAX_LENGTH = 1 << 31  # elements along one axis; a body cannot hold more


def name_of(tensor: Any) -> str:
    """The name of a tensor."""
    if type(tensor) is not dict or type(tensor.get("name")) is not str:
        raise RequestError(f"a tensor must be an object with a name, got {short(tensor)}")
    if "parameters" in tensor:
        check_parameters(tensor, repr(tensor["name"][:80]))
    return tensor["name"]  # type: ignore[no-any-return]


def check_parameters(holder: JsonObject, what: str) -> None:
    """Unknown parameters are ignored, as the protocol has it; values of a type it does not know are refused."""
    parameters = holder.get("parameters")
    if parameters is None:
        return
    if type(parameters) is not dict or not all(type(one) in (str, int, float, bool) for one in parameters.values()):
        raise RequestError(
            f"the parameters of {what} must be strings, numbers or booleans by name, got {short(parameters)}"
        )


def timeout_s(microseconds: Any) -> float:
    """Seconds within which a request must be answered, as its parameter says."""
    if type(microseconds) is not int or microseconds < 1:
        raise RequestError(f"{TIMEOUT} must be a whole number of microseconds from 1 on, got {short(microseconds)}")
    return microseconds / 1e6


def shape_of(tensor: JsonObject, meta: TensorMeta) -> list[int]:
    """The shape of a tensor, of at least one row, for an input that is `meta`."""
    shape = tensor.get("shape")
    if type(shape) is list and 0 < len(shape) <= MAX_RANK:
        for length in shape:
            if type(length) is not int or not 0 < length < MAX_LENGTH:
                break
        else:
            return shape
    raise RequestError(
        f"the shape of {meta.name!r} must be {list(meta.shape)} with at least one row, got {short(shape)}"
    )


def check_shape(name: str, meta: TensorMeta, shape: list[int]) -> None:
    """Look whether `shape` is one that the input `name` may have."""
    if len(shape) != len(meta.shape) or any(want not in (-1, got) for want, got in zip(meta.shape, shape, strict=True)):
        raise RequestError(f"the shape of {name!r} must be {list(meta.shape)}, got {shape}")


def binary_size(tensor: JsonObject) -> Any:
    """What a tensor says of its bytes; None where its elements are in the JSON, as they are unless it says so."""
    size = (tensor.get("parameters") or {}).get(SIZE)
    if size is not None and "data" in tensor:
        raise RequestError(f"{tensor['name'][:80]!r} must have data or {SIZE}, got both")
    return size


def number_type(tensor: JsonObject, name: str) -> str:
    """The datatype of a tensor for the input `name`: one of numbers."""
    datatype = tensor.get("datatype")
    if type(datatype) is not str or datatype not in TYPES or datatype == "BOOL":
        raise wrong_datatype(name, "a number such as FP64", datatype)
    return datatype


def check_number_type(tensor: JsonObject, elements: list[Any], name: str) -> None:
    """Look whether `elements`, as JSON has them, are of the datatype that their tensor says."""
    datatype = tensor.get("datatype")
    if datatype == "FP32" or datatype == "FP64":  # noqa: PLR1714 - a set would hash what may be unhashable
        return
    if type(datatype) is not str or datatype not in NUMBER_TYPES:
        raise wrong_datatype(name, "a number such as FP64", datatype)
    check_integers(elements, repr(name), INTEGER_TYPES[datatype])


def wrong_datatype(name: str, wanted: str, got: Any) -> RequestError:
    """What another datatype than `wanted` is refused with."""
    return RequestError(f"the datatype of {name!r} must be {wanted}, got {short(got)}")
