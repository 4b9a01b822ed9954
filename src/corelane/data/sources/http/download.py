"""A URL to a local file, whole or not at all: retried, resumed where it broke, checked by length and digest.

What is on disk is continued with a range request that holds only if the content is still the same; when it is not, the
download begins anew. An answer whose end cannot be told from a broken connection is not accepted.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from corelane.core.clock import Clock
from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.source import Tell
from corelane.data.sources.http.exchange import Exchange, Reply, shown
from corelane.machine.backoff import ExponentialBackoff

RETRIED = (408, 429, 500, 502, 503, 504)
MAX_RETRY_AFTER_S = 300.0
MAX_CHANGES = 3  # of the content while it is read; then it is nothing that can be downloaded

_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")
_DIGEST = re.compile(r"sha-256=:?([A-Za-z0-9+/=]+):?")
_ADVICE = {401: "check data.source.headers", 403: "check data.source.headers", 404: "check the URL", 410: "it is gone"}


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server says of its content's version: asked for again at the next run."""

    etag: str | None
    last_modified: str | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Validators:
        """Those of an answer."""
        return cls(headers.get("etag"), headers.get("last-modified"))

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the content only if it is another one."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def strong(self) -> str | None:
        """What a range request may rely on: an ETag that is not weak, else the time of the last change."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Download:
    """Owns one file that is being downloaded and nothing else."""

    def __init__(self, config: HTTPConfig, exchange: Exchange, target: Path, *, clock: Clock, tell: Tell) -> None:
        self._config = config
        self._exchange = exchange
        self._target = target
        self._clock = clock
        self._tell = tell
        self._shown = shown(config.url)
        self._validators = Validators(None, None)
        self._total: int | None = None
        self._num_changes = 0
        self.sha256 = ""

    def run(self, known: Validators | None) -> Validators | None:
        """Fill the target and return its version; None when the server says that `known` still holds.

        Raises `DataError` for an answer that retrying will not mend, `SourceReadError` when the retries are used up.
        """
        backoff = ExponentialBackoff(self._config.max_retries, clock=self._clock)
        num_failures = 0
        self._target.write_bytes(b"")
        while True:
            size = self._target.stat().st_size
            try:
                return self._try(known)
            except SourceReadError as error:
                num_failures = 1 if self._target.stat().st_size > size else num_failures + 1
                if num_failures > self._config.max_retries:
                    message = (
                        f"{error.message.partition('; ')[0]}; given up after {num_failures} tries without progress"
                    )
                    raise SourceReadError(message, detail=error.detail) from error
                delay_s = getattr(error, "retry_after_s", None) or backoff.delay_s(num_failures - 1)
                if delay_s >= self._exchange.left_s():
                    raise
                fields = {"source": self._shown, "num_bytes": self._target.stat().st_size, "reason": error.message}
                self._tell("source_retrying", fields)
                self._clock.sleep(delay_s)

    def _try(self, known: Validators | None) -> Validators | None:
        offset = self._target.stat().st_size
        strong = self._validators.strong
        if offset and strong is None:
            offset = self._restart("the server names no version to continue from")
        headers = {"Range": f"bytes={offset}-", "If-Range": strong} if offset and strong else {}
        if not offset and known is not None:
            headers = known.conditions
        with self._exchange.get(self._config.url, headers) as reply:
            if reply.status == 304 and known is not None:
                return None
            if reply.status in (412, 416):
                self._restart("the content changed")
                raise SourceReadError(f"{self._shown} must not change while it is read, but it did; it is read anew")
            if offset and reply.status == 206:
                self._check_range(reply, offset)
            elif reply.status == 200:
                offset = self._begin(reply, offset)
            else:
                raise self._refusal(reply)
            self._append(reply, offset)
            self._check_end(reply)
        return self._validators

    def _begin(self, reply: Reply, offset: int) -> int:
        """A whole answer: what was on disk, if anything, is of another content."""
        if offset:
            self._restart("the content changed")
        encoding = reply.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", ""):
            raise DataError(
                f"{self._shown} must be sent as it is or gzipped once, got {encoding!r}; ask for another form"
            )
        is_chunked = "chunked" in reply.headers.get("transfer-encoding", "")
        has_digest = self._config.sha256 is not None or _digest_of(reply.headers) is not None
        if reply.length is None and not is_chunked and not has_digest:
            raise DataError(
                f"{self._shown} must tell its length, got an answer whose end cannot be told from a broken connection; "
                "set data.source.sha256"
            )
        self._check_size(reply.length or 0)
        self._validators = Validators.of(reply.headers)
        self._total = reply.length
        return 0

    def _check_range(self, reply: Reply, offset: int) -> None:
        match = _RANGE.match(reply.headers.get("content-range", ""))
        if match is None or int(match[1]) != offset or Validators.of(reply.headers).strong != self._validators.strong:
            self._restart("the content changed")
            raise SourceReadError(f"{self._shown} must continue at byte {offset}, got another part; it is read anew")
        if match[3] != "*":
            total = int(match[3])
            if self._total is not None and total != self._total:
                self._restart("the content changed")
                raise SourceReadError(f"{self._shown} must keep its length {self._total}, got {total}; it is read anew")
            self._total = total

    def _append(self, reply: Reply, offset: int) -> None:
        with self._target.open("r+b") as file:
            file.seek(offset)
            for piece in reply.body:
                offset += len(piece)
                self._check_size(offset)
                file.write(piece)

    def _check_end(self, reply: Reply) -> None:
        size = self._target.stat().st_size
        if self._total is not None and size != self._total:
            if size > self._total:
                self._restart("more came than was announced")
            raise SourceReadError(f"{self._shown} must have {self._total} bytes, got {size}; it is read on")
        with self._target.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        told = _digest_of(reply.headers) if reply.status == 200 else None
        if told is not None and told != self.sha256:
            self._restart("its digest differs")
            raise SourceReadError(f"{self._shown} must have the digest its server tells, got another; it is read anew")
        if self._config.sha256 is not None and self._config.sha256 != self.sha256:
            raise DataError(f"{self._shown} must have the digest of data.source.sha256, got {self.sha256}; check both")

    def _check_size(self, size: int) -> None:
        if size > self._config.max_bytes:
            raise DataError(
                f"{self._shown} must have at most {self._config.max_bytes} bytes, got more; raise data.source.max_bytes"
            )

    def _restart(self, reason: str) -> int:
        self._target.write_bytes(b"")
        self._validators, self._total = Validators(None, None), None
        self._num_changes += 1
        if self._num_changes > MAX_CHANGES:
            raise DataError(
                f"{self._shown} must not change while it is read, got {self._num_changes} changes; try later"
            )
        self._tell("source_restarted", {"source": self._shown, "reason": reason})
        return 0

    def _refusal(self, reply: Reply) -> DataError | SourceReadError:
        if reply.status in RETRIED:
            error = SourceReadError(f"{self._shown} must answer 200, got {reply.status}; it is tried again")
            error.retry_after_s = retry_after_s(reply.headers.get("retry-after"), self._clock)  # type: ignore[attr-defined]
            return error
        advice = _ADVICE.get(reply.status, "check the URL")
        return DataError(f"{self._shown} must answer 200, got {reply.status}; {advice}")


def retry_after_s(value: str | None, clock: Clock) -> float | None:
    """The `Retry-After` header in seconds, at most `MAX_RETRY_AFTER_S`; None without a valid one."""
    if value is None:
        return None
    if value.strip().isdigit():
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return min(max(moment.timestamp() - clock.now(), 0.0), MAX_RETRY_AFTER_S)


def _digest_of(headers: Mapping[str, str]) -> str | None:
    """SHA-256 (hex) of the whole content as the server tells it (RFC 9530, and RFC 3230 before it)."""
    for name in ("repr-digest", "content-digest", "digest"):
        match = _DIGEST.search(headers.get(name, "").replace("SHA-256", "sha-256"))
        if match:
            try:
                return base64.b64decode(match[1], validate=True).hex()
            except ValueError:
                return None
    return None
