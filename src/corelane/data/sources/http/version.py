"""What a server says of its content: which version it is, which part was sent, and which digest it has."""

from __future__ import annotations

import base64
import binascii
import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_DIGEST = re.compile(r"(?:^|[\s,])sha-256=(:?)([A-Za-z0-9+/=]{1,64})\1", re.IGNORECASE)
_SENDABLE = re.compile(r"(?!\*$)[\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?")  # `*` would stand for any version
_SETTLED_S = 1.0  # RFC 9110, 8.8.2.2: a younger time of change may stand for two versions


@dataclass(frozen=True, slots=True)
class Validators:
    """What a content's version is known by: asked for again at the next run. Raises `ValueError` for what no header can
    carry: a note on disk may hold anything.
    """

    etag: str | None
    last_modified: str | None

    def __post_init__(self) -> None:
        if (self.etag, self.last_modified) != (_sendable(self.etag), _sendable(self.last_modified)):
            raise ValueError("a version must be printable ASCII")

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Validators:
        """Those of an answer that can be sent back. A time of change counts only if the content could not have changed
        again within it.
        """
        changed = headers.get("last-modified")
        changed_s, sent_s = _seconds(changed), _seconds(headers.get("date"))
        is_settled = changed_s is not None and sent_s is not None and sent_s - changed_s >= _SETTLED_S
        return cls(_sendable(headers.get("etag")), _sendable(changed) if is_settled else None)

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the content only if it is another one."""
        named = {"if-none-match": self.etag, "if-modified-since": self.last_modified}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def strong(self) -> str | None:
        """What a range request may rely on: a strong ETag, without any the time of change (RFC 9110, 13.1.5)."""
        if self.etag is not None:
            return None if self.etag.startswith("W/") else self.etag
        return self.last_modified

    def is_contradicted(self, headers: Mapping[str, str]) -> bool:
        """Whether an answer names another version. It need not name the time of change of a part (RFC 9110, 15.3.7)."""
        if self.etag is not None:
            return headers.get("etag", self.etag) != self.etag
        return self.last_modified is not None and headers.get("last-modified", self.last_modified) != self.last_modified


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes `first` to `last` of `total` (None: not told)."""

    first: int
    last: int
    total: int | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Part | None:
        """That of an answer; None without a valid `Content-Range` (of one part; several are never asked for)."""
        match = _RANGE.fullmatch(headers.get("content-range", ""))
        if match is None:
            return None
        return cls(int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3]))


def digest_of(headers: Mapping[str, str], *, is_whole: bool = True) -> str | None:
    """SHA-256 (hex) of the whole content as a server tells it (RFC 9530, and RFC 3230 before it); None without one.

    `is_whole` says whether the answer is the whole content, so that the digest of the answer is that of the content.
    """
    for name in ("repr-digest", "digest", *(("content-digest",) if is_whole else ())):
        match = _DIGEST.search(headers.get(name, ""))
        if match is None:
            continue
        try:
            digest = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            continue
        if len(digest) == 32:
            return digest.hex()
    return None


def _sendable(value: str | None) -> str | None:
    """`value` unless a header could not carry it, or it would mean something else there."""
    return value if value is not None and _SENDABLE.fullmatch(value) else None


def _seconds(date: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date; None without a valid one."""
    if date is None:
        return None
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
