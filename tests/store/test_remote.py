"""Objects of a store: listed with what identifies them, copied whole or not at all; on S3 and a local file system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corelane.core.errors import ConfigError, DataError, SourceRestartError
from corelane.store.remote import RemoteStore, is_remote
from tests.servers.s3 import Bucket


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


@pytest.fixture(params=["s3", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """An empty folder of a store: its URL, and the options that reach it."""
    if request.param == "file":
        (tmp_path / "store").mkdir()
        return f"file://{tmp_path}/store", {}
    bucket: Bucket = request.getfixturevalue("bucket")
    return f"{bucket.url}/store", bucket.options


def put(place: tuple[str, dict[str, Any]], name: str, data: bytes, folder: Path) -> None:
    (folder / "upload").write_bytes(data)
    RemoteStore(*place).put(folder / "upload", f"{place[0]}/{name}")


def test_what_is_put_is_listed_read_and_removed(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """By name, with its size; a small object at once; nothing where nothing is."""
    store = RemoteStore(*place)
    for name in ("b.csv", "a/c.csv"):
        put(place, name, name.encode(), tmp_path)
    assert [(file.name, file.size) for file in store.list()] == [("a/c.csv", 7), ("b.csv", 5)]
    assert store.read(f"{place[0]}/b.csv", 5) == b"b.csv"
    assert store.read(f"{place[0]}/none", 5) is None
    with pytest.raises(DataError, match="must be at most 4 bytes"):
        store.read(f"{place[0]}/b.csv", 4)
    store.remove(f"{place[0]}/a")
    store.remove(f"{place[0]}/a")
    assert [file.name for file in store.list()] == ["b.csv"]
    store.remove(f"{place[0]}/b.csv")
    with pytest.raises(DataError, match=r"must (name at least one file|exist)"):
        store.list()


def test_what_lies_in_a_folder_is_named(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """Folders and objects by their own names, and the objects below one; nothing where there is no folder."""
    for name in ("a/b/c.csv", "d.csv"):
        put(place, name, b"x", tmp_path)
    store = RemoteStore(*place)
    assert store.names() == {"a", "d.csv"}
    assert [file.name for file in store.list_below(f"{place[0]}/a")] == ["b/c.csv"]
    assert store.list_below(f"{place[0]}/none") == ()
    assert RemoteStore(f"{place[0]}/none", place[1]).names() == frozenset()


def test_one_object_and_a_glob(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """Named by their own name, or from the first wildcard on."""
    url, options = place
    for name in ("y=1/a.csv", "y=2/a.csv", "y=2/b.txt"):
        put(place, name, b"x", tmp_path)
    assert [file.name for file in RemoteStore(f"{url}/y=1/a.csv", options).list()] == ["a.csv"]
    assert [file.name for file in RemoteStore(f"{url}/*/*.csv", options).list()] == ["y=1/a.csv", "y=2/a.csv"]


def test_an_object_that_changes_is_not_copied(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """C7: what was listed is what is fetched: another content, shorter, longer or as long, begins anew."""
    store = RemoteStore(*place)
    for number, data in enumerate([b"1234", b"", b"123456789", b"4321"]):
        put(place, f"{number}", b"1234", tmp_path)
        (file,) = (file for file in store.list() if file.name == str(number))
        store.fetch(file, tmp_path / "copy" / str(number))
        assert (tmp_path / "copy" / str(number)).read_bytes() == b"1234"
        put(place, f"{number}", data, tmp_path)
        if data == b"1234":
            continue
        with pytest.raises(SourceRestartError, match="must not change while it is read"):
            store.fetch(file, tmp_path / "copy" / "again")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nonsense": 1}, "storage_options must fit"),
        ({"key": "a", "secret": "b", "endpoint_url": "no url"}, "storage_options must fit"),
        ({"key": "a"}, "check the credentials"),
    ],
)
def test_options_that_do_not_fit_are_told(options: dict[str, Any], words: str) -> None:
    """They are the user's to mend: nothing is tried again."""
    with pytest.raises(ConfigError, match=words):
        RemoteStore("s3://bucket/x", options).list()


def test_a_driver_that_fails_when_it_is_made_is_a_store_out_of_reach() -> None:
    """The driver for HDFS connects in its constructor: making the store does not, its first call does."""
    store = RemoteStore("hdfs://127.0.0.1:1/x", {"host": "127.0.0.1", "port": 1})
    with pytest.raises(SourceRestartError, match="must be reachable"):
        store.list()


def test_a_store_that_is_not_there_may_come_back() -> None:
    """Nobody listens: that is no fault of the configuration."""
    options = {"key": "a", "secret": "geheim", "endpoint_url": "http://127.0.0.1:1"}
    options["config_kwargs"] = {"retries": {"max_attempts": 0}}  # type: ignore[assignment]
    with pytest.raises(SourceRestartError, match="must be reachable") as caught:
        RemoteStore("s3://bucket/x", options).list()
    assert "geheim" not in f"{caught.value}{caught.value.detail}"


def test_urls_and_paths() -> None:
    """A drive or a colon makes no URL."""
    assert is_remote("s3://a/b")
    assert not is_remote("a:b/c")
