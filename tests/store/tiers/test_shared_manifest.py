"""Whose a manifest is, whatever was put under its name."""

from __future__ import annotations

import pytest

from corelane.store.bundle import make_manifest
from corelane.store.tiers.shared_manifest import is_of_another_release, is_ours

OURS = make_manifest("download", {})


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"name": "a web app"}'])
def test_what_others_call_a_manifest_is_not_ours(manifest: bytes) -> None:
    """Any bytes at all are told from what Corelane writes."""
    assert not is_ours(manifest)
    assert not is_of_another_release(manifest)


def test_another_format_is_another_release() -> None:
    """Told by its version alone, whatever else it says; a damaged entry of this release is this release's."""
    assert is_ours(OURS)
    assert not is_of_another_release(OURS)
    assert not is_of_another_release(OURS.replace(b"download", b"dawnload"))
    newer = OURS.replace(b'"format_version":1', b'"chunks":[],"format_version":2')
    assert is_ours(newer)
    assert is_of_another_release(newer)
