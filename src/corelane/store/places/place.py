"""A place for small files and bundles that several processes write: a directory here, or any URL that fsspec opens.

Two promises make it fit for a registry. A file or bundle appears under its name whole or not at all, and `create` and
`put` never replace what is there: of several writers of one name one is told that it was first. What the names mean is
for others to know. Paths are relative to the place, with `/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from corelane.core.errors import BundleError


class Place(Protocol):
    """Files and bundles by path. Raises `DataError` for a file that is too large, and what its storage raises."""

    url: str

    def names(self, folder: str = "") -> list[str]:
        """What lies directly in `folder`, sorted, without unfinished work; nothing where there is no such folder."""
        ...

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """The content of a file of at most `max_bytes`; None where there is none."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Make a file, unless there is one; whether this call did."""
        ...

    def put(self, path: str, bundle: Path) -> bool:
        """Copy the bundle at `bundle` here, unless there is something; whether this call did."""
        ...

    def fetch(self, path: str, target: Path) -> Path:
        """The bundle as a local directory: `target`, unless it is local where it lies. Not verified.

        Raises `BundleError` when there is none.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove a file or bundle, so that nobody finds half of it; nothing there is fine."""
        ...


def absent(name: str) -> BundleError:
    """For a bundle that is not at `name`."""
    return BundleError(f"{name} must be a package, got nothing whole there; see `corelane models show`")
