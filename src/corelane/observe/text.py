"""Values made safe to log: plain JSON data, and text that stays on its line.

Whatever a client or a file sends may end up in a log: a column name with a line break, a model name with terminal
escapes, a value that cannot be turned into JSON. Here it becomes data that can neither forge a line nor move a
cursor. Used by `lines.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

MAX_TEXT_LENGTH = 8192  # characters of one value; a traceback fits, a request body does not belong into a log
MAX_ITEMS = 100  # of one list or mapping
MAX_DEPTH = 8
MAX_INTEGER = 2**63  # what readers of JSON take; beyond some thousand digits Python itself refuses to print one

# Controls (C0, DEL, C1), line and paragraph separators, lone surrogates, and what reorders or hides text (bidi marks,
# zero width characters, tags): https://trojansource.codes describes what the latter are used for.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_BARE = re.compile(r"[\w./:+@%,#()\[\]-]+")


def one_line(text: str) -> str:
    r"""`text` with every character that could break a line or steer a terminal written as `\uXXXX`."""
    return _UNSAFE.sub(_escape, text)


def quoted(text: str) -> str:
    """`text` as it stands if it is one plain word, else in quotes with JSON's escapes, on one line in either case."""
    if _BARE.fullmatch(text):
        return one_line(text)
    return one_line(json.dumps(text, ensure_ascii=False))


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON data, bounded in depth, items and characters. Raises only what a foreign object's `str` raises.

    NaN and infinities become the texts "nan", "inf" and "-inf", since JSON has no numbers for them; longer integers
    become hexadecimal text. Arrays and tensors become numbers or lists, large ones their shape; anything else becomes
    its `str`.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_INTEGER else _shortened(hex(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _shortened(value)
    if depth >= MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return _plain_mapping(value, depth)
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return _plain_items(value, depth)
    return _plain_object(value, depth)


def _plain_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    items = list(value.items())
    result = {_shortened(str(key)): plain(item, depth + 1) for key, item in items[:MAX_ITEMS]}
    if len(items) > MAX_ITEMS:
        result["..."] = f"{len(items) - MAX_ITEMS} more"
    return result


def _plain_items(value: Sequence[Any] | Set[Any], depth: int) -> list[Any]:
    items = list(value)
    result = [plain(item, depth + 1) for item in items[:MAX_ITEMS]]
    if len(items) > MAX_ITEMS:
        result.append(f"... {len(items) - MAX_ITEMS} more")
    return result


def _plain_object(value: Any, depth: int) -> Any:
    if hasattr(value, "tolist") and hasattr(value, "shape"):  # NumPy or torch; neither is imported here
        if math.prod(value.shape) > MAX_ITEMS:
            return f"{type(value).__name__} of shape {tuple(value.shape)}"
        return plain(value.tolist(), depth + 1)
    return _shortened(str(value))


def _shortened(text: str) -> str:
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    return f"{text[:MAX_TEXT_LENGTH]}... ({len(text) - MAX_TEXT_LENGTH} more characters)"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
