"""Places: whole or absent, never replaced; a directory, memory and S3 keep the same promises."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import fsspec
import pytest

from corelane.core.errors import BundleError, ConfigError, DataError
from corelane.store.bundle import verify_bundle, write_bundle
from corelane.store.durable import write_new
from corelane.store.places.local import LocalPlace
from corelane.store.places.opening import place_of
from corelane.store.places.place import Place
from tests.servers.s3 import Bucket


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


@pytest.fixture(params=["directory", "file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place."""
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        yield place_of(f"{bucket.url}/registry", bucket.options)
    elif request.param == "memory":
        url = f"memory://registry-{token_hex(6)}"
        yield place_of(url)
        fsspec.filesystem("memory").store.clear()
    else:
        yield place_of(tmp_path / "place" if request.param == "directory" else f"file://{tmp_path}/place")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    with write_bundle(tmp_path / "bundle", "package") as path:
        (path / "graphs").mkdir()
        (path / "graphs" / "one").write_bytes(b"1" * 1000)
        (path / "two").write_bytes(b"2")
    return tmp_path / "bundle"


def test_a_file_is_made_once(place: Place) -> None:
    """The first of two writers of a name is told so, and what it wrote stays."""
    assert place.create("m/record/1.json", b"one")
    assert not place.create("m/record/1.json", b"two")
    assert place.read("m/record/1.json", 10) == b"one"
    assert place.read("m/record/2.json", 10) is None
    assert (place.names(), place.names("m"), place.names("m/record")) == (["m"], ["record"], ["1.json"])
    assert place.names("n") == []
    with pytest.raises(DataError, match="must be at most 2 bytes"):
        place.read("m/record/1.json", 2)
    place.remove("m/record/1.json")
    place.remove("m/record/1.json")
    assert place.read("m/record/1.json", 10) is None


def test_a_bundle_is_put_once_and_comes_back_whole(place: Place, bundle: Path, tmp_path: Path) -> None:
    """Byte for byte with its manifest; a second one of its name changes nothing."""
    assert place.put("m/1", bundle)
    assert not place.put("m/1", bundle)
    fetched = place.fetch("m/1", tmp_path / "copies" / "1")
    assert place.fetch("m/1", tmp_path / "copies" / "1") == fetched
    assert verify_bundle(fetched, "package").digest == verify_bundle(bundle, "package").digest
    place.remove("m/1")
    with pytest.raises(BundleError, match="must be a package, got nothing whole there"):
        place.fetch("m/1", tmp_path / "copies" / "2")


def test_of_many_writers_at_once_one_is_first(place: Place) -> None:
    """Eight threads make one file: one of them is told that it did, and the file is its."""
    start, made = threading.Barrier(8), []

    def make(number: int) -> None:
        start.wait(20)
        if place.create("m/1", str(number).encode()):
            made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [place.read("m/1", 10)] == [str(number).encode() for number in made]


def test_processes_make_a_file_once(tmp_path: Path) -> None:
    """Four processes count to 200 by making files: each number is made by one of them."""
    script = (
        "import sys; from pathlib import Path; from corelane.store.durable import write_new\n"
        "print(sum(write_new(Path(sys.argv[1]) / str(n), b'x') for n in range(200)))"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "made")]
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(4)]
    assert sum(int(process.communicate(timeout=60)[0]) for process in processes) == 200


def test_a_new_file_leaves_nothing_else(tmp_path: Path) -> None:
    """Whether it was made or not, no temporary stays."""
    assert write_new(tmp_path / "a" / "file", b"one")
    assert not write_new(tmp_path / "a" / "file", b"two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, bundle: Path) -> None:
    """A file in a folder's place is the user's mistake."""
    (tmp_path / "file").write_bytes(b"")
    for change in (
        lambda place: place.create("m/1", b""),
        lambda place: place.put("m/1", bundle),
    ):
        with pytest.raises(ConfigError, match="must be a directory that can be written"):
            change(LocalPlace(tmp_path / "file"))


def test_a_claim_without_a_manifest_is_no_bundle(tmp_path: Path, bundle: Path) -> None:
    """What a killed writer leaves in remote storage is not fetched, and its name is not given again."""
    place = place_of(f"memory://registry-{token_hex(6)}")
    place.create("m/1/claim", b"{}")
    with pytest.raises(BundleError, match="nothing whole there"):
        place.fetch("m/1", tmp_path / "copy")
    assert not place.put("m/1", bundle)
