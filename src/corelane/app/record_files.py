"""Small JSON files and bundles of run directories and packages, read with bounds: what they say, not what they weigh.

Bundles are read by their manifest and the sizes of their files. Used by `run_records.py` and `package_records.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corelane.core.errors import BundleError, CorelaneError
from corelane.core.types import JsonObject

MAX_FILE_BYTES = 64 << 20  # larger than any JSON that a run writes

BROKEN = (CorelaneError, OSError, KeyError, TypeError, ValueError, AttributeError)
"""What reading a directory raises when it is no whole run or package."""


@dataclass(frozen=True)
class BundleFacts:
    """What a bundle's manifest says; its files have the sizes that it promises, their content was not read."""

    digest: str
    files: Mapping[str, Mapping[str, Any]]
    num_bytes: int


def bundle_facts(path: Path, kind: str) -> BundleFacts:
    """A bundle by its manifest and the sizes of its files: the hashes of gigabytes are checked by who uses them."""
    content = read_file(path / "manifest.json")
    try:
        manifest = json.loads(content)
        is_right = manifest["kind"] == kind
        sizes = {name: int(entry["size"]) for name, entry in manifest["files"].items()}
        wrong = next((name for name, size in sizes.items() if (path / name).stat().st_size != size), None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise BundleError(f"{path} must be a whole {kind}, got {error}; restore it, or remove it") from error
    if not is_right or wrong is not None:
        what = f"a file of another size, {wrong}" if is_right else f"a bundle of kind {str(manifest['kind'])[:40]!r}"
        raise BundleError(f"{path} must be a whole {kind}, got {what}; restore it, or remove it")
    return BundleFacts(hashlib.sha256(content).hexdigest(), manifest["files"], len(content) + sum(sizes.values()))


def read_file(path: Path) -> bytes:
    """The content of a regular file. Raises `BundleError` for anything else, and for one that is too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in place of the file must not hold us up
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if not path.is_file() or size > MAX_FILE_BYTES:
            raise BundleError(f"{path} must be a file of at most {MAX_FILE_BYTES} bytes, got another; remove it")
        return file.read(MAX_FILE_BYTES)


def read_json(path: Path) -> JsonObject:
    """The JSON object in `path`. Raises `BundleError` when it is something else, `FileNotFoundError` without one."""
    try:
        content = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} must be JSON, got {error}; restore it, or remove its folder") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must be a JSON object, got a {type(content).__name__}; restore it")
    return content


def number(value: Any) -> float | None:
    """`value` if it is a number and no truth value."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def numbers(values: Any) -> dict[str, float]:
    """The numbers of a mapping by name; none if there is no mapping."""
    found = {str(name): number(value) for name, value in (values or {}).items()}
    return {name: value for name, value in found.items() if value is not None}


def integer(value: Any) -> int | None:
    """`value` if it is a whole number that a database can hold."""
    is_integer = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if is_integer else None
