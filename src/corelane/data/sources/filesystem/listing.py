"""Which local files a path names: a file, the files of a folder, or those that a glob matches, in order of their names.

Only regular files are taken, and only those that lie below the root when links are followed: a link cannot lead a
listing elsewhere, and a pipe or a device cannot hang it. The listing is made once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from corelane.core.errors import DataError
from corelane.data.source import Tell

MAX_FILES = 1_000_000
_WILDCARDS = "*?["


def has_wildcards(path: Path) -> bool:
    """Whether `path` is a glob and no file of that very name is there."""
    return any(sign in str(path) for sign in _WILDCARDS) and not path.exists()


def check_root(path: Path, root: Path | None) -> None:
    """Raise `DataError` unless `path`, links followed, lies below `root`."""
    if root is not None and not path.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{path} must lie in {root} when links are followed, got {path.resolve()}; move it, or the root"
        )


def list_files(path: Path, root: Path | None, *, is_wanted: Callable[[Path], bool], tell: Tell) -> list[Path]:
    """The wanted regular files that `path`, a folder (with its subfolders) or a glob, names, sorted.

    Hidden files and folders, and those that begin with `_` (the marks of Spark and Hive), are left out; so are special
    files, of which `tell` hears. Raises `DataError` for a link that leads out of `root` (the folder itself, or the part
    of the glob without wildcards) and for more than a million files.
    """
    base = root or (Path(_fixed_part(str(path))) if has_wildcards(path) else path)
    found: list[Path] = []
    for candidate in candidates(path):
        if not is_wanted(candidate):
            continue
        if not _is_regular(candidate):
            tell("special_file_skipped", {"path": str(candidate)})
            continue
        check_root(candidate, base)
        found.append(candidate)
        if len(found) > MAX_FILES:
            raise DataError(f"{path} must hold at most {MAX_FILES} files, got more; narrow it down")
    return sorted(found)


def partitions_of(path: Path, base: Path) -> Mapping[str, str | None]:
    """The `key=value` folders between `base` and the file `path`, as Hive names them; its null is None."""
    values: dict[str, str | None] = {}
    for part in path.relative_to(base).parts[:-1]:
        key, separator, value = part.partition("=")
        if separator and key:
            values[key] = None if value == "__HIVE_DEFAULT_PARTITION__" else value
    return values


def candidates(path: Path) -> Iterator[Path]:
    """What is not hidden below the folder `path`, or matches the glob, and is no folder; in no particular order."""
    if has_wildcards(path):
        base = _fixed_part(str(path))
        for candidate in Path(base).glob(os.path.relpath(path, base)):  # links to folders end a `**`
            if not candidate.is_dir() and not _is_hidden(candidate.name):
                yield candidate
        return
    for folder, folders, names in os.walk(path):  # does not follow links to folders, so loops end
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(folder, name) for name in names if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise DataError(f"{path} must be readable, got {error.strerror}; remove it or its link") from error


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if any(sign in part for sign in _WILDCARDS))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")
