"""Which files a path names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.listing import check_root, has_wildcards, list_files, partitions_of


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def listed(path: Path, base: Path, root: Path | None = None) -> list[str]:
    found = list_files(path, root, is_wanted=lambda file: file.suffix == ".csv", tell=lambda event, fields: None)
    return [str(file.relative_to(base)) for file in found]


def test_files_of_a_folder_and_of_its_folders(tmp_path: Path) -> None:
    """In the order of their paths; what is hidden, begins with _ or is not wanted is left out."""
    made(tmp_path, "b.csv", "a/z.csv", "a/_tmp/x.csv", ".git/x.csv", "_x.csv", ".x.csv", "c.txt")
    assert listed(tmp_path, tmp_path) == ["a/z.csv", "b.csv"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.csv", ["b.csv"]),
        ("**/*.csv", ["a/z.csv", "a/y/x.csv", "b.csv"]),
        ("a/?.csv", ["a/z.csv"]),
        ("[ab]*", ["b.csv"]),
        ("year=*/*.csv", []),
    ],
)
def test_globs(tmp_path: Path, pattern: str, names: list[str]) -> None:
    """With stars, question marks, sets and any depth."""
    made(tmp_path, "b.csv", "a/z.csv", "a/y/x.csv", "c.txt")
    assert sorted(listed(tmp_path / pattern, tmp_path)) == sorted(names)


def test_a_name_with_a_star_is_a_name_where_it_exists(tmp_path: Path) -> None:
    """A file may be called so."""
    made(tmp_path, "a[1].csv")
    assert not has_wildcards(tmp_path / "a[1].csv")
    assert has_wildcards(tmp_path / "b[1].csv")


def test_a_wider_root_allows_links_within_it(tmp_path: Path) -> None:
    """C14: a link may lead out of the folder where the configured root holds both, and no further."""
    made(tmp_path, "root/data/a.csv", "root/other/b.csv", "outside.csv")
    (tmp_path / "root/data/b.csv").symlink_to(tmp_path / "root/other/b.csv")
    folder = tmp_path / "root/data"
    with pytest.raises(DataError, match="must lie in"):
        listed(folder, tmp_path)
    assert listed(folder, folder, tmp_path / "root") == ["a.csv", "b.csv"]
    (folder / "c.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(DataError, match=r"c\.csv must lie in"):
        listed(folder, folder, tmp_path / "root")
    check_root(tmp_path / "outside.csv", None)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("year=2024/month=1/a.csv", {"year": "2024", "month": "1"}),
        ("year=2024/plain/a.csv", {"year": "2024"}),
        ("year=/a.csv", {"year": ""}),
        ("=x/a.csv", {}),
        ("a=b=c/a.csv", {"a": "b=c"}),
        ("k=__HIVE_DEFAULT_PARTITION__/a.csv", {"k": None}),
        ("a.csv", {}),
    ],
)
def test_partitions(name: str, values: dict[str, Any]) -> None:
    """Folders named by key and value, as Hive names them."""
    assert partitions_of(Path("/base") / name, Path("/base")) == values
