"""Whose a manifest in shared storage is: this release's, another release's, or that of something else altogether.

Others keep their things in the same storage, and other releases of Corelane theirs. `shared.py` asks here before it
calls an entry broken or removes it; whether the entry is whole is for `store/bundle.py` to say.
"""

from __future__ import annotations

import json

from corelane.core.types import JsonObject
from corelane.store.bundle import FORMAT_VERSION

_KEYS = frozenset({"format_version", "kind", "files"})  # in every release's


def is_ours(manifest: bytes) -> bool:
    """Whether some release of Corelane wrote it; it may have been damaged since."""
    return _content(manifest) is not None


def is_of_another_release(manifest: bytes) -> bool:
    """Whether a release that uses another format wrote it: this one cannot read the entry, nor call it broken."""
    content = _content(manifest)
    return content is not None and content["format_version"] != FORMAT_VERSION


def _content(manifest: bytes) -> JsonObject | None:
    try:
        content = json.loads(manifest)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.keys() >= _KEYS else None
