"""One entry is one line: JSON that every reader takes, or words that a person reads."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corelane.observe.lines import MAX_SHOWN_LENGTH, human_line, json_line

HEAD = {"timestamp": 1_700_000_000.25, "level": "info", "stream": "data", "event": "rows_read"}
ANY_TEXT = st.text(alphabet=st.characters())


@given(st.dictionaries(ANY_TEXT, ANY_TEXT | st.floats() | st.lists(ANY_TEXT)))
def test_a_json_line_is_one_line_of_strict_ascii_json(fields: dict[str, Any]) -> None:
    """No field, by name or value, can break the line, and texts come back as they went in."""
    line = json_line({**fields, **HEAD})
    assert line.isascii()
    assert line.isprintable()
    back = json.loads(line, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    texts = {name: value for name, value in fields.items() if isinstance(value, str) and name not in HEAD}
    expected = json.loads(json.dumps(texts))  # which makes one letter of two halves that stand side by side
    assert {name: back[name] for name in expected} == expected


def test_the_order_and_the_stamp_of_a_json_line() -> None:
    """Time in ISO 8601 and UTC first, then level, stream, event, then the caller's fields in their order."""
    line = json_line({**HEAD, "b": 1, "a": [1.5, None]})
    assert line == (
        '{"timestamp":"2023-11-14T22:13:20.250000+00:00","level":"info","stream":"data","event":"rows_read",'
        '"b":1,"a":[1.5,null]}'
    )


@given(st.dictionaries(ANY_TEXT, ANY_TEXT), ANY_TEXT)
def test_a_human_line_is_one_line(fields: dict[str, str], event: str) -> None:
    """Event, names and values from outside cannot add a line or an escape sequence."""
    line = human_line({**fields, **HEAD, "event": event, "exception": ""})
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_a_human_line_reads_well() -> None:
    """Time, level, stream, event, then fields; nested ones by dotted name, numbers rounded, long values cut."""
    line = human_line({**HEAD, "loss": 0.123456789, "timing": {"step_s": 2.0}, "path": "a b", "long": "x" * 500})
    stamp, _, rest = line.partition(" ")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", stamp)
    shown = "x" * MAX_SHOWN_LENGTH + "..."
    assert rest == f'info    data      rows_read loss=0.123457 timing.step_s=2 path="a b" long={shown}'


def test_a_traceback_is_indented_line_by_line() -> None:
    """A traceback follows the line it belongs to and cannot pretend to be a line of its own."""
    line = human_line({**HEAD, "exception": "Traceback:\n  File x\nValueError: a\x1bb"})
    assert line.splitlines()[1:] == ["    Traceback:", "      File x", "    ValueError: a\\u001bb"]
