"""SQL as text: quoted names, the one SELECT a query may be, values by name, and the condition that goes on after a key.

Names are quoted and values never become part of a statement, except the values of a key, which came out of the database
itself and are written as literals. What is built here runs in a read-only session besides.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from corelane.core.errors import ConfigError

MAX_QUERY_LENGTH = 1 << 20

_TOKEN = re.compile(
    r"""(?P<passed>[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`
        |\$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$|--[^\n]*|/\*.*?\*/|::)
      |:(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)
_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*\(*\s*([A-Za-z]+)", re.DOTALL)


def quote_name(name: str) -> str:
    """`name` as an identifier. Raises `ConfigError` for one that no database has."""
    if not name or "\0" in name:
        raise ConfigError(f"a name in the database must be text without NUL, got {name!r}; correct it")
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """`text` as a string literal of standard SQL."""
    if "\0" in text:
        raise ConfigError("a text in the database must not hold NUL, got one; choose another key")
    return "'" + text.replace("'", "''") + "'"


def literal(value: Any) -> str:
    """A key's value as a literal; times as text, which the caller casts."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return quote_text(value)
    if isinstance(value, datetime.date | datetime.datetime):
        return quote_text(value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat())
    raise ConfigError(
        f"a key must hold whole numbers, texts, dates or times, got {type(value).__name__}; choose others"
    )


def check_query(query: str) -> str:
    """`query` without its last semicolon. Raises `ConfigError` unless it is one SELECT."""
    if len(query) > MAX_QUERY_LENGTH or "\0" in query:
        raise ConfigError(f"data.source.query must be at most {MAX_QUERY_LENGTH} characters without NUL; shorten it")
    stripped = query.strip()
    ends = [match for match in _TOKEN.finditer(stripped) if match["end"]]
    if ends and ends[0].end() < len(stripped):
        raise ConfigError("data.source.query must be one statement, got several; keep the SELECT alone")
    first = _FIRST_WORD.match(stripped)
    if first is None or first[1].lower() not in ("select", "with", "values", "table"):
        raise ConfigError("data.source.query must be a SELECT, got another statement; write a SELECT, or name a table")
    return stripped[: ends[0].start()] if ends else stripped


def bind_names(query: str, names: Collection[str], replace: Callable[[str], str]) -> str:
    """`query` with each `:name` of `names` replaced, outside texts, comments and casts.

    Raises `ConfigError` when a name is not used.
    """
    used: set[str] = set()

    def swap(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None or name not in names:
            return match[0]
        used.add(name)
        return replace(name)

    bound = _TOKEN.sub(swap, query)
    for name in names:
        if name not in used:
            raise ConfigError(f"data.source.parameters must be used in the query, got {name!r} and no :{name} in it")
    return bound


def select(
    columns: Sequence[str], base: str, *, after: str | None = None, order: Sequence[str] = (), limit: str = ""
) -> str:
    """A SELECT of expressions from `base`, where the condition `after` holds, in order."""
    where = f" WHERE {after}" if after else ""
    by = f" ORDER BY {', '.join(order)}" if order else ""
    return f"SELECT {', '.join(columns)} FROM {base}{where}{by}{limit}"  # noqa: S608 - names are quoted, see above


def beyond(keys: Sequence[str], values: Sequence[str]) -> str:
    """The condition for rows behind `values` in the order of `keys`, both expressions."""
    if len(keys) == 1:
        return f"{keys[0]} > {values[0]}"
    return f"({', '.join(keys)}) > ({', '.join(values)})"


def timed_out(place: str, limit_s: float) -> str:
    """What is said of a statement that took longer than it may."""
    return (
        f"a statement on {place} must end within {limit_s:g} s, got a timeout; "
        "raise data.source.statement_timeout_s, or read less"
    )
