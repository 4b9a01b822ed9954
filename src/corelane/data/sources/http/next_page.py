"""Where a page of a JSON API leads: a link in it, its `Link` header, or a cursor that goes back as a parameter."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from corelane.core.errors import DataError
from corelane.data.config import PagingConfig
from corelane.data.sources.http.target import Target

MAX_LINK_BYTES = 8192
_LINK = re.compile(r"<([^<>]*)>([^<]*)")  # RFC 8288: a reference, and what is said of it
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)


def next_target(paging: PagingConfig, current: Target, page: Any, link: str) -> Target | None:
    """The page after `page`, whose `Link` header is `link`; None after the last.

    Raises `DataError` for a link or cursor that cannot be one.
    """
    if paging.next_cursor is not None:
        cursor = _text(value_at(page, paging.next_cursor), "next_cursor", current)
        return None if cursor is None else _with_parameter(current, paging.cursor_param, cursor)
    if paging.next_link == "header":
        found = _text(_next_of(link), "next_link", current)
    else:
        found = _text(value_at(page, paging.next_link or ""), "next_link", current)
    return None if found is None else current.join(found)


def value_at(page: Any, path: str) -> Any:
    """What lies at the dotted `path` of a page; None where there is nothing. A key may itself have dots in it."""
    while path:
        if not isinstance(page, dict):
            return None
        if path in page:
            return page[path]
        key, _, path = path.partition(".")
        page = page.get(key)
    return page


def _text(value: Any, key: str, current: Target) -> str | None:
    """A link or cursor as text; None for what says that there is no further page (nothing, false, empty, 0)."""
    if value is None or value is False or value in ("", 0):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > MAX_LINK_BYTES:
        raise DataError(
            f"data.source.paging.{key} of {current.shown} must be a text or a whole number of at most "
            f"{MAX_LINK_BYTES} bytes, got {type(value).__name__}; check the path"
        )
    return str(value)


def _next_of(link: str) -> str | None:
    """The reference of the link whose relation is `next`."""
    for match in _LINK.finditer(link[: 4 * MAX_LINK_BYTES]):
        relation = _REL.search(match[2])
        if relation is not None and "next" in (relation[1] or relation[2] or "").lower().split():
            return match[1]
    return None


def _with_parameter(target: Target, name: str, value: str) -> Target:
    """`target` with one query parameter set; the others stay as they are written."""
    path, _, query = target.path.partition("?")
    prefix = urlencode({name: ""})
    others = [part for part in query.split("&") if part and not f"{part}=".startswith(prefix)]
    return replace(target, path=f"{path}?{'&'.join([*others, urlencode({name: value})])}")
