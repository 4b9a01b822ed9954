"""One log entry as one line: JSON for files and pipes, words for people. Used by `log.py`; `text.py` makes it safe.

An entry is a dict with `timestamp` (seconds since the epoch), `level`, `stream`, `event`, then the caller's fields.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from corelane.observe.text import one_line, plain, quoted

MAX_SHOWN_LENGTH = 200  # characters of one value on a terminal; the file has it whole
_HEAD = ("timestamp", "level", "stream", "event", "exception")


def json_line(entry: Mapping[str, Any]) -> str:
    """`entry` as one line of ASCII JSON without the line break; `timestamp` in ISO 8601, UTC."""
    stamp = datetime.fromtimestamp(entry["timestamp"], UTC).isoformat(timespec="microseconds")
    text = json.dumps(plain({**entry, "timestamp": stamp}), separators=(",", ":"))
    return text.replace("\x7f", "\\u007f")  # the one control character that is ASCII and that JSON leaves alone


def human_line(entry: Mapping[str, Any]) -> str:
    """`entry` for a person: local time, level, stream, event, `field=value`; a traceback follows on indented lines."""
    clock = time.strftime("%H:%M:%S", time.localtime(entry["timestamp"]))
    fields = {name: value for name, value in entry.items() if name not in _HEAD}
    words = [f"{clock} {entry['level']:<7} {entry['stream']:<9} {one_line(str(entry['event']))}"]
    words += [f"{quoted(name)}={_shown(value)}" for name, value in _flat(plain(fields))]
    trace = "".join(f"\n    {one_line(line)}" for line in str(entry.get("exception", "")).splitlines())
    return " ".join(words) + trace


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = quoted(value) if isinstance(value, str) else one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[:MAX_SHOWN_LENGTH]}..."
