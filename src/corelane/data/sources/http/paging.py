"""A JSON API that answers page by page, downloaded into one file of JSON lines: page after page, each retried alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson

from corelane.core.clock import Clock
from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig, PagingConfig
from corelane.data.source import Tell
from corelane.data.sources.http.exchange import Exchange, Reply
from corelane.data.sources.http.next_page import next_target, value_at
from corelane.data.sources.http.retry import Retries, refusal
from corelane.data.sources.http.target import Target

MAX_PAGE_BYTES = 64 << 20  # a page is parsed in memory


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
        self._shown = exchange.target.shown

    def write(self, path: Path) -> str:
        """Write every record of every page as a line of `path`; the SHA-256 (hex) of the file.

        Raises `DataError` for pages that are not what was configured, lead in a circle or are too many,
        `SourceReadError` when the retries of a page are used up.
        """
        target: Target | None = self._exchange.target
        seen: set[bytes] = set()
        digest, num_bytes = hashlib.sha256(), 0
        with path.open("wb") as file:
            while target is not None:
                self._check_new(target, seen)
                page, link = self._page(target)
                lines = self._lines(page)
                num_bytes += len(lines)
                self._check_size(num_bytes)
                digest.update(lines)
                file.write(lines)
                target = next_target(self._paging, target, page, link)
        self._tell("source_downloaded", {"source": self._shown, "num_bytes": num_bytes, "num_pages": len(seen)})
        return digest.hexdigest()

    def _check_new(self, target: Target, seen: set[bytes]) -> None:
        fingerprint = hashlib.sha256(target.url.encode()).digest()[:16]  # a URL may have kilobytes, and they are many
        if fingerprint in seen:
            raise DataError(
                f"the pages of {self._shown} must end, got a circle: page {len(seen)} leads back; "
                "check data.source.paging"
            )
        if len(seen) >= self._paging.max_pages:
            raise DataError(
                f"the pages of {self._shown} must end, got over {self._paging.max_pages} pages; "
                "raise data.source.paging.max_pages if they are meant"
            )
        seen.add(fingerprint)

    def _page(self, target: Target) -> tuple[Any, str]:
        """The parsed page, and its `Link` header."""
        retries = Retries(self._config, self._exchange.pace, self._shown, clock=self._clock, tell=self._tell)
        while True:
            try:
                with self._exchange.get(target, {}) as reply:
                    return self._parsed(reply), reply.headers.get("link", "")
            except SourceReadError as error:
                retries.wait(error)

    def _parsed(self, reply: Reply) -> Any:
        if reply.status != 200:
            raise refusal(reply, self._clock)
        if reply.encoding != "identity":
            raise DataError(f"a page of {self._shown} must be sent as it is, got it packed; ask for another form")
        data = bytearray()
        for piece in reply.body:
            data += piece
            if len(data) > MAX_PAGE_BYTES:
                raise DataError(f"a page of {self._shown} must have at most {MAX_PAGE_BYTES} bytes, got more")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if reply.has_end:
                raise DataError(f"a page of {self._shown} must be JSON, got: {error}; check the URL") from error
            message = f"a page of {self._shown} must be whole JSON, got a part or none; it is tried again"
            raise SourceReadError(message) from error

    def _lines(self, page: Any) -> bytes:
        records = value_at(page, self._paging.records)
        if not isinstance(records, list):
            where = self._paging.records or "a page"
            raise DataError(
                f"{where} of {self._shown} must be a list of records, got {type(records).__name__}; "
                "check data.source.paging.records"
            )
        return b"".join(orjson.dumps(record) + b"\n" for record in records)

    def _check_size(self, size: int) -> None:
        if size > self._config.max_bytes:
            raise DataError(
                f"{self._shown} must have at most {self._config.max_bytes} bytes, got more; raise data.source.max_bytes"
            )
