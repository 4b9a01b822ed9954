"""What a server says of its content: versions that can be relied upon, parts, digests."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from corelane.data.sources.http.version import Part, Validators, digest_of

OLD, NOW = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:01:00 GMT"


@pytest.mark.parametrize(
    ("headers", "strong", "conditions"),
    [
        ({"etag": '"1"'}, '"1"', {"if-none-match": '"1"'}),
        ({"etag": 'W/"1"'}, None, {"if-none-match": 'W/"1"'}),
        ({"last-modified": OLD, "date": NOW}, OLD, {"if-modified-since": OLD}),
        ({"last-modified": NOW, "date": NOW}, None, {}),
        ({"last-modified": OLD}, None, {}),
        ({"last-modified": "yesterday", "date": NOW}, None, {}),
        ({"etag": "*", "last-modified": OLD, "date": NOW}, OLD, {"if-modified-since": OLD}),
        ({"etag": '"\udcff"'}, None, {}),
        ({}, None, {}),
    ],
)
def test_what_a_version_can_be_relied_upon_for(headers: dict[str, str], strong: str | None, conditions: Any) -> None:
    """A range needs a strong tag, or a time of change that has settled; what cannot be sent back is not used."""
    found = Validators.of(headers)
    assert (found.strong, found.conditions) == (strong, conditions)


def test_another_version_contradicts() -> None:
    """By the tag where there is one; what is not said contradicts nothing."""
    tagged, timed = Validators('"1"', OLD), Validators(None, OLD)
    assert tagged.is_contradicted({"etag": '"2"'})
    assert not tagged.is_contradicted({"last-modified": NOW})
    assert timed.is_contradicted({"last-modified": NOW})
    assert not timed.is_contradicted({"etag": '"2"'})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bytes 5-9/10", Part(5, 9, 10)),
        ("bytes 5-9/*", Part(5, 9, None)),
        ("bytes */10", None),
        ("items 5-9/10", None),
        ("bytes 5-9/10, bytes 0-1/10", None),
        ("bytes 5-9/" + "1" * 50, None),
        ("", None),
    ],
)
def test_parts(text: str, part: Part | None) -> None:
    """One part of bytes, or none that can be used."""
    assert Part.of({"content-range": text}) == part


def test_digests() -> None:
    """Of the whole content in either form; that of an answer only where the answer is the whole."""
    digest = hashlib.sha256(b"x").digest()
    text = base64.b64encode(digest).decode()
    assert digest_of({"repr-digest": f"sha-256=:{text}:"}) == digest.hex()
    assert digest_of({"digest": f"md5=xx, SHA-256={text}"}) == digest.hex()
    assert digest_of({"content-digest": f"sha-256=:{text}:"}) == digest.hex()
    assert digest_of({"content-digest": f"sha-256=:{text}:"}, is_whole=False) is None
    for odd in ("sha-256=:AAAA:", "sha-256=:!!:", f"sha-512=:{text}:", "rubbish", "sha-256=:" + "A" * 43 + "=x:"):
        assert digest_of({"repr-digest": odd}) is None
