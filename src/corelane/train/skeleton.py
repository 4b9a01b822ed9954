"""A nested state dict as JSON with the tensors taken out, and back: how optimiser and scheduler state is kept as data.

A tensor becomes `{"$tensor": name}`, a tuple `{"$tuple": [...]}`, a dict whose keys are not all strings
`{"$items": [[key, value], ...]}`. Nothing else but JSON values is taken: no object is ever built from a name on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from corelane.core.errors import StateError
from corelane.core.types import Json

_MARKS = ("$tensor", "$tuple", "$items")


def split(tree: Any) -> tuple[Json, dict[str, Tensor]]:
    """`tree` as JSON, and the tensors in it by the dotted path at which they stood.

    Raises `StateError` naming the leaf that is neither JSON nor a tensor.
    """
    tensors: dict[str, Tensor] = {}
    return _split(tree, "", tensors), tensors


def join(skeleton: Json, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that `split` took apart. Raises `StateError` naming a tensor that is missing."""
    if isinstance(skeleton, list):
        return [join(item, tensors) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    if "$tensor" in skeleton:
        name = skeleton["$tensor"]
        if name not in tensors:
            raise StateError(f"the state must hold the tensor {name!r}, got none; use an older checkpoint")
        return tensors[name]
    if "$tuple" in skeleton:
        return tuple(join(item, tensors) for item in skeleton["$tuple"])
    if "$items" in skeleton:
        return {key: join(value, tensors) for key, value in skeleton["$items"]}
    return {key: join(value, tensors) for key, value in skeleton.items()}


def _split(node: Any, path: str, tensors: dict[str, Tensor]) -> Json:
    if isinstance(node, Tensor):
        tensors[path] = node
        return {"$tensor": path}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, tuple):
        return {"$tuple": _split_items(node, path, tensors)}
    if isinstance(node, list):
        return _split_items(node, path, tensors)
    if isinstance(node, Mapping):
        items = [(key, _split(value, f"{path}.{key}".lstrip("."), tensors)) for key, value in node.items()]
        if all(isinstance(key, str) and key not in _MARKS for key, _ in items):
            return dict(items)
        if all(isinstance(key, str | int) for key, _ in items):
            return {"$items": [[key, value] for key, value in items]}
    raise StateError(
        f"state {path!r} must be a tensor or JSON, got {type(node).__name__}; checkpoints hold data, not objects"
    )


def _split_items(node: list[Any] | tuple[Any, ...], path: str, tensors: dict[str, Tensor]) -> list[Json]:
    return [_split(item, f"{path}.{index}".lstrip("."), tensors) for index, item in enumerate(node)]
