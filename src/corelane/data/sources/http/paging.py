"""A JSON API that answers page by page, downloaded into one file of JSON lines: page after page, each retried alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import orjson

from corelane.core.clock import Clock
from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig, PagingConfig
from corelane.data.source import Tell
from corelane.data.sources.http.download import RETRIED, retry_after_s
from corelane.data.sources.http.exchange import Exchange, Reply, shown
from corelane.machine.backoff import ExponentialBackoff

MAX_PAGE_BYTES = 64 << 20  # a page is parsed in memory
_NEXT_LINK = re.compile(r'<([^>]*)>[^,]*;\s*rel="?next"?')  # RFC 8288


class Pages:
    """Owns the walk through the pages of one API and nothing else."""

    def __init__(
        self, config: HTTPConfig, paging: PagingConfig, exchange: Exchange, *, clock: Clock, tell: Tell
    ) -> None:
        self._config = config
        self._paging = paging
        self._exchange = exchange
        self._clock = clock
        self._tell = tell
        self._shown = shown(config.url)

    def write(self, target: Path) -> None:
        """Write every record of every page as a line. Raises `DataError` for pages that are not what was configured,
        lead in a circle or are too many, `SourceReadError` when the retries of a page are used up.
        """
        url: str | None = self._config.url
        seen: set[str] = set()
        num_bytes = 0
        with target.open("wb") as file:
            while url is not None:
                if url in seen or len(seen) >= self._paging.max_pages:
                    raise DataError(
                        f"the pages of {self._shown} must end, got a circle or over {self._paging.max_pages} pages; "
                        "check data.source.paging"
                    )
                seen.add(url)
                page, link = self._page(url)
                num_bytes += self._write(page, file)
                if num_bytes > self._config.max_bytes:
                    raise DataError(f"{self._shown} must have at most {self._config.max_bytes} bytes, got more")
                url = self._next(url, page, link)

    def _page(self, url: str) -> tuple[Any, str]:
        """The parsed page, and its `Link` header."""
        backoff = ExponentialBackoff(self._config.max_retries, clock=self._clock)
        for attempt in backoff.attempts(on=SourceReadError):
            with attempt, self._exchange.get(url, {}) as reply:
                self._check(reply)
                data = bytearray()
                for piece in reply.body:
                    data += piece
                    if len(data) > MAX_PAGE_BYTES:
                        raise DataError(f"a page of {self._shown} must have at most {MAX_PAGE_BYTES} bytes, got more")
                link = reply.headers.get("link", "")
        try:
            return orjson.loads(bytes(data)), link
        except orjson.JSONDecodeError as error:
            raise DataError(f"a page of {self._shown} must be JSON, got: {error}; check the URL") from error

    def _check(self, reply: Reply) -> None:
        if reply.status in RETRIED:
            delay_s = retry_after_s(reply.headers.get("retry-after"), self._clock)
            if delay_s is not None and delay_s < self._exchange.left_s():
                self._clock.sleep(delay_s)
            self._tell("source_retrying", {"source": self._shown, "status": reply.status})
            raise SourceReadError(f"{self._shown} must answer 200, got {reply.status}; it is tried again")
        if reply.status != 200:
            raise DataError(f"{self._shown} must answer 200, got {reply.status}; check the URL and data.source.headers")

    def _write(self, page: Any, file: BinaryIO) -> int:
        records = _at(page, self._paging.records)
        if not isinstance(records, list):
            where = self._paging.records or "a page"
            raise DataError(
                f"{where} of {self._shown} must be a list of records, got {type(records).__name__}; "
                "check data.source.paging.records"
            )
        return sum(file.write(orjson.dumps(record) + b"\n") for record in records)

    def _next(self, url: str, page: Any, link: str) -> str | None:
        paging = self._paging
        if paging.next_cursor is not None:
            cursor = _at(page, paging.next_cursor)
            return None if cursor in (None, "", False) else _with_parameter(url, paging.cursor_param, str(cursor))
        if paging.next_link == "header":
            match = _NEXT_LINK.search(link)
            return urljoin(url, match[1]) if match else None
        found = _at(page, paging.next_link or "")
        return urljoin(url, str(found)) if found else None


def _at(page: Any, path: str) -> Any:
    """What lies at the dotted `path` of a page; None where there is nothing."""
    for part in path.split(".") if path else ():
        page = page.get(part) if isinstance(page, dict) else None
    return page


def _with_parameter(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = [(key, old) for key, old in parse_qsl(parts.query, keep_blank_values=True) if key != name]
    return urlunsplit(parts._replace(query=urlencode([*query, (name, value)])))
