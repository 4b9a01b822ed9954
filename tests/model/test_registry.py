"""`ModelManager`: versions are whole, aliases move whole, deletions can be taken back; on any storage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import fsspec
import pytest

from corelane.core.clock import ManualClock
from corelane.core.errors import BundleError, ConfigError, GoldenError, NotFoundError, RegistryError
from corelane.model.package import ModelPackage
from corelane.model.registry import KEPT_REVISIONS, RECORD, Choice, ModelManager, Reference
from corelane.model.registry_record import Record
from tests.serve.packages import golden_of, numeric_package, told_package
from tests.servers.s3 import Bucket

DAY_S = 86_400.0


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Versions 1 to 3 of the model m, as they were made."""
    home = tmp_path_factory.mktemp("packages")
    return [told_package(home, told) for told in (1, 2, 3)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture(params=["directory", "file", "memory", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[ModelManager]:
    """An empty registry on each kind of storage."""
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        yield ModelManager(f"{bucket.url}/models", options=bucket.options, clock=clock)
    elif request.param == "memory":
        yield ModelManager(f"memory://models-{token_hex(6)}", clock=clock)
        fsspec.filesystem("memory").store.clear()
    else:
        yield ModelManager(f"file://{tmp_path}/r" if request.param == "file" else tmp_path / "r", clock=clock)


@pytest.fixture
def registry(tmp_path: Path, packages: list[Path], clock: ManualClock) -> ModelManager:
    """A registry on disk with versions 1 to 3, the first of which is the champion."""
    manager = ModelManager(tmp_path / "registry", clock=clock)
    for package in packages:
        manager.publish(package)
    manager.promote("m", 1)
    return manager


def test_what_is_published_can_be_found_promoted_and_fetched(
    anywhere: ModelManager, packages: list[Path], tmp_path: Path
) -> None:
    """A package keeps its number and its bytes; the alias says which serves, and goes back to what it said before."""
    assert (anywhere.names(), anywhere.versions("m")) == ([], [])
    assert anywhere.publish(packages[0], alias="champion") == ("m", 1)
    assert anywhere.publish(packages[1]) == ("m", 2)
    assert (anywhere.names(), anywhere.versions("m")) == (["m"], [1, 2])
    anywhere.promote("m", 2)
    assert anywhere.choose(Reference.parse("m")) == Choice("m", 2, 1000.0, (1,))
    fetched = ModelPackage.load(anywhere.fetch("m", 2, tmp_path / "copies"))
    assert (fetched.version, fetched.digest) == (2, ModelPackage.load(packages[1]).digest)
    anywhere.rollback("m")
    assert anywhere.choose(Reference.parse("m@champion")).version == 1
    assert anywhere.choose(Reference.parse("m@2")) == Choice("m", 2)
    description, digest, num_bytes = anywhere.describe("m", 2)
    assert (description.name, digest, num_bytes > 1000) == ("m", fetched.digest, True)


def test_a_deletion_waits_and_can_be_taken_back(
    anywhere: ModelManager, packages: list[Path], clock: ManualClock
) -> None:
    """The files stay for the time of grace and go with the first change after it; the highest number stays taken."""
    for package in packages:
        anywhere.publish(package)
    anywhere.promote("m", 2)
    anywhere.delete("m", 1, grace_s=DAY_S)
    anywhere.delete("m", 3, grace_s=DAY_S)
    clock.advance(DAY_S - 1)
    assert (anywhere.remove_due("m"), anywhere.versions("m")) == ([], [1, 2, 3])
    anywhere.restore("m", 1)
    anywhere.delete("m", 1, grace_s=DAY_S)
    clock.advance(2)
    assert anywhere.remove_due("m") == []
    clock.advance(DAY_S)
    assert (anywhere.remove_due("m"), anywhere.versions("m")) == ([1], [2, 3])
    with pytest.raises(NotFoundError, match="m version 1 must be in the registry"):
        anywhere.promote("m", 1)
    assert anywhere.record("m").deleted.keys() == {3}


def test_a_number_that_is_taken_gives_the_next(registry: ModelManager, tmp_path: Path) -> None:
    """Another package of the same number becomes the next version, and says so in itself; the same one stays one."""
    other = told_package(tmp_path / "other", 7)
    assert registry.publish(other) == ("m", 4)
    renumbered = ModelPackage.load(registry.fetch("m", 4, tmp_path))
    assert (renumbered.version, renumbered.digest != ModelPackage.load(other).digest) == (4, True)
    assert "version 4" in (renumbered.path / "card.md").read_text()
    assert registry.publish(renumbered.path) == ("m", 4)


def test_a_folder_of_packages_is_a_registry(packages: list[Path]) -> None:
    """Whose models have no alias yet: what to do is said."""
    manager = ModelManager(packages[0].parents[1])
    assert (manager.names(), manager.versions("m"), manager.record("m")) == (["m"], [1, 2, 3], Record())
    with pytest.raises(NotFoundError, match=r"one that is set \(none\), got 'champion'; set it by promoting"):
        manager.choose(Reference.parse("m"))


def test_a_package_that_is_broken_or_answers_wrongly_is_not_published(
    registry: ModelManager, packages: list[Path], tmp_path: Path
) -> None:
    """One flipped byte, or golden rows that come out differently: nothing of it is in the registry."""
    wrong = told_package(tmp_path / "wrong", 5, golden=golden_of(packages[0], is_wrong=True))
    with pytest.raises(GoldenError):
        registry.publish(wrong, alias="champion")
    graph = wrong / "graphs" / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError):
        registry.publish(wrong)
    assert (registry.versions("m"), registry.record("m").alias("champion").version) == ([1, 2, 3], 1)


def test_what_is_not_there_is_told(registry: ModelManager) -> None:
    """A model, a version, an alias; and names that can be none, before anything is looked up."""
    for call in (
        lambda: registry.choose(Reference.parse("n")),
        lambda: registry.choose(Reference.parse("m@9")),
        lambda: registry.choose(Reference.parse("m@challenger")),
        lambda: registry.promote("m", 9),
        lambda: registry.archive("m", 9),
        lambda: registry.rollback("m", alias="challenger"),
        lambda: registry.unset("m", "challenger"),
    ):
        with pytest.raises(NotFoundError):
            call()
    for name in ("..", "a/b", "", "x" * 65, "m@", "m@../x", "m@00"):
        with pytest.raises(ConfigError):
            Reference.parse(name)
    for name in ("..", "a/b", ""):
        with pytest.raises(ConfigError):
            registry.versions(name)


def test_a_broken_record_is_named_and_the_one_before_it_can_be_had_back(registry: ModelManager) -> None:
    """The message says which file; without that file the record before it counts."""
    registry.promote("m", 2)
    folder = Path(registry.place.url) / "m" / RECORD
    newest = max(folder.glob("*.json"), key=lambda path: int(path.stem))
    newest.write_bytes(newest.read_bytes()[:20])
    with pytest.raises(RegistryError, match=rf"{newest.name} must be a registry's record"):
        registry.choose(Reference.parse("m"))
    newest.unlink()
    assert registry.choose(Reference.parse("m")).version == 1


def test_old_records_are_cleared_away(registry: ModelManager) -> None:
    """However often an alias moves, some fifty files stay, and the newest counts."""
    for number in range(2 * KEPT_REVISIONS):
        registry.promote("m", 1 + number % 2)
    numbers = registry._revisions("m")
    assert (len(numbers), numbers[-1]) == (KEPT_REVISIONS, 2 * KEPT_REVISIONS)
    assert registry.choose(Reference.parse("m")).version == 2


def test_a_writer_that_slept_does_not_win_with_an_old_number(
    registry: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that decided on a record which was cleared away since decides anew, and its change is not lost."""
    other = ModelManager(registry.place.url)
    calls = []

    def change(record: Record) -> Record:
        calls.append(record)
        if len(calls) == 1:  # it sleeps while others make so many records that its number is cleared away
            for number in range(2 * KEPT_REVISIONS):
                other.promote("m", 1 + number % 2)
        return record.promoted("challenger", 3, 0.0)

    registry._change("m", change)
    record = other.record("m")
    assert (record.alias("challenger").version, record.alias("champion").version) == (3, 2)
    assert len(calls) == 2


def test_a_removal_that_was_killed_half_way_is_ended(registry: ModelManager, clock: ManualClock) -> None:
    """Marked as begun, files gone or not: the next change sees to the rest."""
    registry.delete("m", 2, grace_s=10.0)
    registry._change("m", lambda record: record.going([2]))
    with pytest.raises(ConfigError, match="being removed"):
        registry.restore("m", 2)
    assert registry.remove_due("m") == [2]
    assert (registry.versions("m"), registry.record("m").deleted) == ([1, 3], {})


PUBLISHER = """
import sys
from pathlib import Path
from corelane.model.registry import ModelManager
manager = ModelManager(sys.argv[1])
for path in sys.argv[2:]:
    name, version = manager.publish(Path(path))
    manager.promote(name, version)
    manager.promote(name, version, alias=f"a{version}")
    print(version, flush=True)
"""


def test_publishers_at_once_get_versions_of_their_own(tmp_path: Path) -> None:
    """Four processes publish three packages each under one name and promote each: twelve whole versions, twelve
    aliases of which none is lost, and a champion that is one of them.
    """
    numbers = [range(first, first + 3) for first in (0, 3, 6, 9)]
    homes = [[told_package(tmp_path / str(one), 1, width=8 + one) for one in three] for three in numbers]
    registry = tmp_path / "registry"
    argv = [sys.executable, "-c", PUBLISHER, str(registry)]
    processes = [
        subprocess.Popen([*argv, *map(str, paths)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) for paths in homes
    ]
    told = [int(line) for process in processes for line in process.communicate(timeout=120)[0].split()]
    manager = ModelManager(registry)
    versions = manager.versions("m")
    assert sorted(told) == versions == list(range(1, 13))
    assert all(ModelPackage.load(manager.fetch("m", one, tmp_path)).version == one for one in versions)
    record = manager.record("m")
    assert record.aliases.keys() == {"champion", *(f"a{one}" for one in versions)}
    assert record.alias("champion").version in versions


def test_readers_meet_whole_records_and_whole_packages_only(registry: ModelManager, tmp_path: Path) -> None:
    """While one process promotes without end, another reads: what it is told is always a version that loads."""
    script = (
        "import sys; from corelane.model.registry import ModelManager\n"
        "manager = ModelManager(sys.argv[1])\n"
        "while True: [manager.promote('m', version) for version in (1, 2, 3)]"
    )
    process = subprocess.Popen([sys.executable, "-c", script, registry.place.url])
    try:
        seen = set()
        for _ in range(300):
            choice = registry.choose(Reference.parse("m"))
            seen.add(choice.version)
            registry.describe("m", choice.version)
        assert seen <= {1, 2, 3}
    finally:
        process.kill()
        process.wait()
    assert ModelPackage.load(registry.fetch("m", registry.choose(Reference.parse("m")).version, tmp_path))


def test_a_package_of_another_name_is_another_model(registry: ModelManager, tmp_path: Path) -> None:
    """Each with aliases of its own."""
    assert registry.publish(numeric_package(tmp_path / "n", "n"), alias="champion") == ("n", 1)
    assert registry.names() == ["m", "n"]
    assert registry.record("n").names_of(1) == ["champion"]
