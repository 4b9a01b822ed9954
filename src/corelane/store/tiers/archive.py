"""Where bundles are archived for other machines and later days: `SharedTier`, or nowhere.

The disk tier looks for downloads there before they are built; sources, training and packaging keep what cannot be made
again. Nothing here raises for a store that fails: an archive is never needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Archive(Protocol):
    """Bundles by folder and name. A broken or absent one, and a store that fails, are all not there."""

    def fetch(self, folder: str, name: str, kind: str, target: Path) -> bool:
        """Put the files of the entry `name`, a bundle of `kind`, into the directory `target`; whether it was there."""
        ...

    def keep(self, folder: str, name: str, bundle: Path) -> bool:
        """Keep the bundle at `bundle` as the entry `name`, in the place of one with other content; whether it is."""
        ...

    def keep_files(self, folder: str, name: str, kind: str, files: Mapping[str, Path]) -> bool:
        """`keep` for files that are no bundle yet: by their names in it, where they lie."""
        ...


class NoArchive:
    """The archive that is switched off."""

    def fetch(self, folder: str, name: str, kind: str, target: Path) -> bool:  # noqa: ARG002
        """Nothing is there."""
        return False

    def keep(self, folder: str, name: str, bundle: Path) -> bool:  # noqa: ARG002
        """Nothing is kept."""
        return False

    def keep_files(self, folder: str, name: str, kind: str, files: Mapping[str, Path]) -> bool:  # noqa: ARG002
        """Nothing is kept."""
        return False
