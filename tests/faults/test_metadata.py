"""The index of runs under real faults: locked, read-only, deleted, full, damaged, away. No run ends of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.app import train
from corelane.app.catalogue import list_runs, reindex
from corelane.app.recording import INDEX, STALE, recorded_run
from corelane.app.runs import held
from corelane.machine.backoff import ExponentialBackoff
from corelane.observe.config import ObserveConfig
from corelane.store.metadata import MetadataStore
from corelane.store.metadata_writer import MetadataWriter
from tests.app.run_directories import RunDirectory
from tests.servers.postgres import PostgresServer
from tests.store.metadata_examples import everything, in_process, run

SOON = ExponentialBackoff(initial_s=0.02, maximum_s=0.1, jitter_s=0.0)
WITHIN_S = 30.0

HOLDER = """
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


class Listener:
    """What a writer tells."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def tell(self, event: str, fields: Mapping[str, Any]) -> None:
        self.events.append(event)

    def waits_for(self, event: str) -> None:
        until(lambda: event in self.events)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the whole database for itself."""
    child = in_process(HOLDER, str(path))
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    try:
        yield
    finally:
        child.communicate("\n", timeout=30)


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Write `path` until there is no room for another byte."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, b"x" * 4096):
            pass
    os.close(descriptor)


def names(url: str) -> set[str]:
    with closing(MetadataStore(url)) as store:
        return {found.name for found in store.runs()}


def numbered(first: int, last: int) -> set[str]:
    return {f"digits-{number:03d}" for number in range(first, last + 1)}


def writing(url: str, listener: Listener, **options: Any) -> MetadataWriter:
    connect = lambda: MetadataStore(url, tell=listener.tell)  # noqa: E731
    return MetadataWriter(connect, tell=listener.tell, backoff=SOON, **options)


def test_a_locked_file_is_waited_for_by_the_writer_alone(tmp_path: Path) -> None:
    """While another process holds the database, `put` takes no time; afterwards every record is there."""
    url, listener = f"sqlite:///{tmp_path / 'index'}", Listener()
    with writing(url, listener) as writer:
        writer.put(run(1))
        until(lambda: (tmp_path / "index").exists() and "digits-001" in names(url))
        with locked(tmp_path / "index"):
            began = time.monotonic()
            for number in range(2, 21):
                assert writer.put(run(number))
            assert time.monotonic() - began < 1.0
            listener.waits_for("metadata_waits")
        listener.waits_for("metadata_goes_on")
    assert names(url) == numbered(1, 20)
    assert writer.num_dropped == 0


def test_a_file_that_stays_locked_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """`close` is bounded, and what was not written is counted."""
    url, listener = f"sqlite:///{tmp_path / 'index'}", Listener()
    with closing(MetadataStore(url)) as store:
        store.write([])
    writer = writing(url, listener)
    with locked(tmp_path / "index"):
        writer.put(run(1))
        listener.waits_for("metadata_waits")
        began = time.monotonic()
        assert writer.close(timeout_s=4.0) is False
        assert time.monotonic() - began < 6.0
    assert writer.num_dropped == 1


def test_a_deleted_file_is_made_anew(tmp_path: Path) -> None:
    """The writer notices that its file is gone, makes another, and says that what was in it has to be indexed again."""
    url, listener = f"sqlite:///{tmp_path / 'index'}", Listener()
    with writing(url, listener) as writer:
        writer.put(run(1))
        until(lambda: (tmp_path / "index").exists() and "digits-001" in names(url))
        (tmp_path / "index").unlink()
        writer.put(run(2))
        until(lambda: writer.generation == 2)
    assert names(url) == {"digits-002"}
    assert listener.events == ["metadata_made_anew"]


def test_a_file_that_another_process_replaced_is_noticed(tmp_path: Path) -> None:
    """Also when the new file looks like the old one from outside, down to its inode."""
    url, path = f"sqlite:///{tmp_path / 'index'}", tmp_path / "index"
    with closing(MetadataStore(url)) as ours, closing(MetadataStore(url)) as other:
        ours.write([run(1)])
        for generation in range(2, 6):
            path.unlink()
            other.write([run(2)])
            ours.write([run(3)])
            assert (ours.generation, other.generation) == (generation, generation - 1)
    assert names(url) == {"digits-002", "digits-003"}


@pytest.mark.parametrize(
    "garbage", [b"no database at all\n" * 1000, os.urandom(50_000), b"SQLite format 3\0" + b"x" * 9000]
)
def test_garbage_is_moved_aside_and_said(tmp_path: Path, garbage: bytes) -> None:
    """A file that is no database is kept under another name, and the index goes on with a new one."""
    path, listener = tmp_path / "index", Listener()
    path.write_bytes(garbage)
    with writing(f"sqlite:///{path}", listener) as writer:
        writer.put(run(1))
    assert names(f"sqlite:///{path}") == {"digits-001"}
    assert (tmp_path / "index.broken").read_bytes() == garbage
    assert listener.events[0] == "metadata_broken"
    assert writer.num_dropped == 0


def test_damage_in_the_middle_of_the_work_is_survived(tmp_path: Path) -> None:
    """A database whose pages are overwritten while a run writes is moved aside, and the run's records go on."""
    path, listener = tmp_path / "index", Listener()
    url = f"sqlite:///{path}"
    with writing(url, listener) as writer:
        for number in range(1, 200):
            writer.put(run(number))
        until(lambda: path.exists() and len(names(url)) == 199)
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
        writer.put(run(200))
        listener.waits_for("metadata_broken")
    assert names(url) == {"digits-200"}


GARBAGE_OPENER = """
sys.stdin.readline()
store = MetadataStore(sys.argv[1])
for _ in range(5):
    store.write(everything(int(sys.argv[2])))
"""


def test_processes_that_find_garbage_at_once_agree(tmp_path: Path) -> None:
    """One moves it aside; none moves the good database of another aside."""
    path = tmp_path / "index"
    path.write_bytes(b"garbage" * 1000)
    children = [in_process(GARBAGE_OPENER, f"sqlite:///{path}", str(number)) for number in range(1, 5)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
    assert [child.returncode for child in children] == [0] * 4
    assert names(f"sqlite:///{path}") == numbered(1, 4)


@pytest.mark.needs("mount")
def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    """Records wait while there is no room and are written when there is; the database stays whole."""
    with tmpfs(tmp_path / "disk", "1m") as disk:
        url, listener = f"sqlite:///{disk / 'index'}", Listener()
        with writing(url, listener) as writer:
            writer.put(run(1))
            until(lambda: (disk / "index").exists() and "digits-001" in names(url))
            filler = disk / "filler"
            fill(filler)
            for number in range(2, 100):
                for record in everything(number):
                    writer.put(record)
            listener.waits_for("metadata_waits")
            filler.unlink()
            listener.waits_for("metadata_goes_on")
        assert names(url) == numbered(1, 99)
        assert writer.num_dropped == 0


@pytest.mark.needs("mount")
def test_a_read_only_disk_costs_the_index_only(tmp_path: Path) -> None:
    """Records are counted as lost; questions are answered from the directories, with a note."""
    with tmpfs(tmp_path / "disk", "4m") as disk:
        runs = disk / "runs"
        trained = trained_run(tmp_path, runs)
        (runs / INDEX).unlink()
        with closing(MetadataStore(f"sqlite:///{runs / INDEX}")) as store:
            store.write([])
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        listener = Listener()
        writer = writing(f"sqlite:///{runs / INDEX}", listener)
        writer.put(run(1))
        listener.waits_for("metadata_waits")
        assert writer.close() is False
        answer = list_runs(runs)
        assert [one["name"] for one in answer["runs"]] == [trained.name]
        assert "answered from the directories alone" in answer["notes"][0]


@pytest.mark.needs("postgres")
def test_a_server_that_stops_and_comes_back(postgres_server: PostgresServer, database: str) -> None:
    """Records that come while PostgreSQL is down are in it when it is up again."""
    listener = Listener()
    with writing(database, listener) as writer:
        writer.put(run(1))
        until(lambda: names(database) == {"digits-001"})
        postgres_server.stop()
        try:
            for number in range(2, 21):
                assert writer.put(run(number))
            listener.waits_for("metadata_waits")
        finally:
            postgres_server.start()
        listener.waits_for("metadata_goes_on")
    assert names(database) == numbered(1, 20)
    assert writer.num_dropped == 0


# --- whole runs -------------------------------------------------------------------------------------------------------


def trained_run(tmp_path: Path, runs: Path, **observe: Any) -> Path:
    """A small real run."""
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    config = {
        "name": "a",
        "data": {"target": "y"},
        "machine": {"cache": str(tmp_path / "cache"), "memory": "64MiB"},
        "train": {"epochs": 2},
        "observe": observe,
    }
    return train(config, data={"x": x, "y": (x[:, 0] > 0).astype(int)}, runs=runs, quiet=True).directory


def best_weights(directory: Path) -> str:
    manifest = next((directory / "checkpoints").glob("*/manifest.json"))
    return str(json.loads(manifest.read_bytes())["files"]["model.safetensors"]["sha256"])


def test_training_with_a_locked_index_ends_as_without(tmp_path: Path) -> None:
    """The same weights and a finished run; the index is stale, says so, and `reindex` mends it."""
    first = trained_run(tmp_path, tmp_path / "runs")
    with locked(tmp_path / "runs" / INDEX):
        second = trained_run(tmp_path, tmp_path / "runs")
    assert best_weights(first) == best_weights(second)
    assert (tmp_path / "runs" / STALE).exists()
    assert "corelane runs reindex" in list_runs(tmp_path / "runs")["notes"][0]
    assert reindex(tmp_path / "runs")["num_runs"] == 2
    assert list_runs(tmp_path / "runs")["notes"] == []
    assert "metadata_dropped" in (second / "logs" / "system.jsonl").read_text()


def test_training_with_garbage_for_an_index_ends_as_without(tmp_path: Path) -> None:
    """The garbage is kept, a new index has the run."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / INDEX).write_bytes(b"garbage" * 1000)
    directory = trained_run(tmp_path, tmp_path / "runs")
    assert (directory / "result.json").exists()
    assert names(f"sqlite:///{tmp_path / 'runs' / INDEX}") == {"a-001"}


@pytest.mark.parametrize(
    "url", ["postgresql://u:geheim@127.0.0.1:1/d", "sqlite:////nowhere/at/all", "mysql://u:geheim@h/d"]
)
def test_training_with_an_index_that_is_nowhere_ends_as_without(tmp_path: Path, url: str) -> None:
    """Nobody listens, the folder is not there, the database is of no known kind: a warning without secrets."""
    directory = trained_run(tmp_path, tmp_path / "runs", metadata=url)
    assert (directory / "result.json").exists()
    log = (directory / "logs" / "system.jsonl").read_text()
    assert "metadata_dropped" in log
    assert "geheim" not in log
    assert [one["status"] for one in list_runs(tmp_path / "runs")["runs"]] == ["finished"]


def test_a_live_run_is_followed(tmp_path: Path) -> None:
    """The index knows of a run while it runs: its state, its values and its checkpoints, and at the end its outcome."""
    live = RunDirectory(tmp_path)
    with closing(MetadataStore(f"sqlite:///{tmp_path / INDEX}")) as store, held(live.path):
        with recorded_run(live.path, ObserveConfig(), poll_s=0.01):
            until(lambda: [found.status for found in store.runs()] == ["running"])
            key = store.runs()[0].key
            live.prepare()
            live.log(5)
            live.save()
            until(lambda: len(store.metrics(key)) == 10 and len(store.checkpoints(key)) == 1)
            live.log(2)
            live.go_back(4)
            until(lambda: len(store.metrics(key)) == 6)
            live.finish()
        assert [(found.status, found.num_steps) for found in store.runs()] == [("finished", 3)]
        assert store.runs()[0].dataset is not None


def test_a_run_that_raises_is_not_running(tmp_path: Path) -> None:
    """What the index says last is that nobody trains it any more, though its lock is still held at that moment."""
    live = RunDirectory(tmp_path)
    with pytest.raises(ZeroDivisionError), held(live.path), recorded_run(live.path, ObserveConfig(), poll_s=0.01):
        raise ZeroDivisionError
    with closing(MetadataStore(f"sqlite:///{tmp_path / INDEX}")) as store:
        assert [found.status for found in store.runs()] == ["interrupted"]


def test_a_live_run_is_whole_in_an_index_that_was_deleted_meanwhile(tmp_path: Path) -> None:
    """What was recorded before the file was deleted is recorded again in the new one."""
    live, path = RunDirectory(tmp_path), tmp_path / INDEX
    with held(live.path), recorded_run(live.path, ObserveConfig(), poll_s=0.01):
        live.log(5)
        until(lambda: path.exists() and counted(path) == 10)
        path.unlink()
        live.log(1)
        until(lambda: path.exists() and counted(path) == 12)
    assert counted(path) == 12


def counted(path: Path) -> int:
    """How many values the index at `path` holds of the one run."""
    with closing(MetadataStore(f"sqlite:///{path}")) as store:
        runs = store.runs()
        return len(store.metrics(runs[0].key)) if runs else 0
