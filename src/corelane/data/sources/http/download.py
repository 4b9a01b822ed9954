"""A URL to a local file, whole or not at all: retried, resumed where it broke, checked by length and digest.

What is on disk is continued with a range request that holds only if the content is still the same; when it is not, the
download begins anew. An answer whose end cannot be told from a broken connection is not accepted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from corelane.core.clock import Clock
from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.source import Tell
from corelane.data.sources.http.exchange import Exchange, Reply
from corelane.data.sources.http.retry import Retries, refusal
from corelane.data.sources.http.version import Part, Validators, digest_of

MAX_CHANGES = 3  # of the content while it is read; then it is nothing that can be downloaded


@dataclass
class _Content:
    """What is known of the content whose first `size` bytes are on disk; `told` is its digest as the server says."""

    size: int = 0
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    total: int | None = None
    told: str | None = None
    validators: Validators = field(default_factory=lambda: Validators(None, None))
    encoding: str = "identity"


class Download:
    """Owns one file that is being downloaded and nothing else."""

    def __init__(self, config: HTTPConfig, exchange: Exchange, target: Path, *, clock: Clock, tell: Tell) -> None:
        self._config = config
        self._exchange = exchange
        self._target = target
        self._clock = clock
        self._tell = tell
        self._shown = exchange.target.shown
        self._can_continue = True
        self._num_changes = 0
        self._furthest = 0
        self._content = _Content()

    def run(self, known: Validators | None) -> Validators | None:
        """Fill the target and return its version; None when the server says that `known` still holds.

        Raises `DataError` for an answer that retrying will not mend, `SourceReadError` when the retries are used up.
        """
        self._target.write_bytes(b"")
        retries = Retries(self._config, self._exchange.pace, self._shown, clock=self._clock, tell=self._tell)
        while True:
            try:
                return self._try(known)
            except SourceReadError as error:
                reached = self._content.size
                if self._content.size and (self._content.validators.strong is None or not self._can_continue):
                    self._restart("it cannot be continued")
                retries.wait(error, has_progressed=reached > self._furthest)
                self._furthest = max(self._furthest, reached)

    @property
    def sha256(self) -> str:
        """The digest (hex) of the bytes on disk."""
        return self._content.hash.hexdigest()

    @property
    def encoding(self) -> str:
        """How they are packed: `identity` (not) or `gzip`."""
        return self._content.encoding

    def _try(self, known: Validators | None) -> Validators | None:
        headers: dict[str, str] = {}
        if self._content.size:
            headers = {"range": f"bytes={self._content.size}-", "if-range": self._content.validators.strong or ""}
        elif known is not None:
            headers = known.conditions
        with self._exchange.get(self._exchange.target, headers) as reply:
            if reply.status == 304 and known is not None and not self._content.size:
                return None
            if self._content.size and reply.status in (412, 416):
                raise self._changed(f"status {reply.status}")
            if self._content.size and reply.status == 206:
                self._continue(reply)
            elif reply.status == 200:
                self._begin(reply)
            else:
                raise refusal(reply, self._clock)
            self._append(reply)
            self._check_end(reply)
        return self._content.validators

    # --- answers ------------------------------------------------------------------------------------------------------

    def _begin(self, reply: Reply) -> None:
        """A whole answer: what was on disk, if anything, is of another content, or the server does not send parts."""
        if self._content.size and self._content.validators.is_contradicted(reply.headers):
            self._count_change()
            self._restart("the content changed")
        elif self._content.size:
            self._restart("the server sends no parts")
        self._content.encoding = reply.encoding
        self._content.told = digest_of(reply.headers)
        if not reply.has_end and self._config.sha256 is None and self._content.told is None:
            raise DataError(
                f"{self._shown} must tell its length, got an answer whose end cannot be told from a broken connection; "
                "set data.source.sha256"
            )
        self._check_size(reply.length or 0)
        self._content.validators = Validators.of(reply.headers)
        self._content.total = reply.length

    def _continue(self, reply: Reply) -> None:
        """A part: of the same version, from the byte asked for, and of a length that says when all is there."""
        content, part = self._content, Part.of(reply.headers)
        if content.validators.is_contradicted(reply.headers):
            raise self._changed("another version")
        total = part.total if part is not None and part.total is not None else content.total
        if content.total is not None and total != content.total:
            raise self._changed(f"the length {total} instead of {content.total}")
        names_version = content.validators.etag is None or "etag" in reply.headers
        if part is None or part.first != content.size or total is None or not names_version:
            raise self._unfit(f"must continue at byte {content.size} of the same version")
        if reply.encoding != content.encoding:
            raise self._unfit(f"must stay {content.encoding}")
        content.total = total
        content.told = content.told or digest_of(reply.headers, is_whole=False)

    def _append(self, reply: Reply) -> None:
        with self._target.open("ab") as file:
            for piece in reply.body:
                self._check_size(self._content.size + len(piece))
                file.write(piece)
                self._content.hash.update(piece)
                self._content.size += len(piece)

    def _check_end(self, reply: Reply) -> None:
        content = self._content
        if content.total is not None and content.size < content.total:
            raise SourceReadError(f"{self._shown} must have {content.total} bytes, got {content.size}; it is read on")
        if content.total is not None and content.size > content.total:
            raise self._unfit(f"must have {content.total} bytes")
        if content.told is not None and content.told != self.sha256:
            raise self._unfit("must have the digest its server tells")
        may_be_cut = not reply.has_end and content.told is None and content.encoding == "identity"
        if may_be_cut and self._config.sha256 != self.sha256:
            raise self._unfit("must have the digest of data.source.sha256")

    def _check_size(self, size: int) -> None:
        if size > self._config.max_bytes:
            raise DataError(
                f"{self._shown} must have at most {self._config.max_bytes} bytes, got more; raise data.source.max_bytes"
            )

    # --- beginning anew -----------------------------------------------------------------------------------------------

    def _changed(self, what: str) -> SourceReadError:
        """The content is another one: nothing of it is on disk."""
        self._count_change()
        self._restart("the content changed")
        return SourceReadError(f"{self._shown} must not change while it is read, got {what}; it is read anew")

    def _unfit(self, constraint: str) -> SourceReadError:
        """What came cannot be used, and asking this server for parts is not to be tried again."""
        self._can_continue = False
        self._restart("what came does not fit")
        return SourceReadError(f"{self._shown} {constraint}, got something else; it is read anew")

    def _count_change(self) -> None:
        self._num_changes += 1
        self._furthest = 0
        if self._num_changes > MAX_CHANGES:
            raise DataError(
                f"{self._shown} must not change while it is read, got {self._num_changes} changes; try later"
            )

    def _restart(self, reason: str) -> None:
        self._tell("source_restarted", {"source": self._shown, "num_bytes": self._content.size, "reason": reason})
        self._target.write_bytes(b"")
        self._content = _Content()
