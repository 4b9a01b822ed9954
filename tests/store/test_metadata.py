"""The metadata store, on SQLite and on PostgreSQL: what is written is read, once, with many writers."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from corelane.core.errors import ConfigError, MissingDependencyError, StateError, TransientError
from corelane.store.metadata import MetadataStore
from corelane.store.metadata_engine import WRITES, can_share_memory, make_engine
from corelane.store.metadata_records import Checkpoint, Metric, RunCheckpoints, RunMetrics
from tests.store.metadata_examples import PACKAGE, dataset, everything, in_process, key_of, package, run

NUM_PROCESSES = 4
NUM_RUNS = 8  # each process


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'metadata.sqlite'}"
    return str(request.getfixturevalue("database"))


@pytest.fixture
def store(url: str) -> Iterator[MetadataStore]:
    made = MetadataStore(url)
    yield made
    made.close()


def answers(store: MetadataStore) -> dict[str, Any]:
    """Everything that a store says."""
    runs = store.runs()
    packages = store.packages()
    return {
        "runs": runs,
        "data": [store.dataset(run.dataset) for run in runs if run.dataset],
        "metrics": {run.key: store.metrics(run.key) for run in runs},
        "checkpoints": {run.key: store.checkpoints(run.key) for run in runs},
        "packages": packages,
        "servings": {one.digest: store.servings(one.digest) for one in packages},
    }


def test_what_is_written_is_read(store: MetadataStore) -> None:
    """Every field of every record comes back as it was, floats to the last bit."""
    store.write(everything())
    key = key_of(1)
    assert store.runs() == [run()]
    assert store.run(key) == store.run("digits-001") == run()
    assert store.dataset(dataset().key) == dataset()
    assert store.metrics(key) == [Metric("loss", step, 0, step / 7) for step in range(10)]
    assert store.checkpoints(key) == [Checkpoint(5, "f" * 64, 1000, is_best=True)]
    assert store.packages() == store.packages("digits") == store.packages(run=key) == [package(key)]
    assert [serving.pid for serving in store.servings(PACKAGE)] == [12]
    assert store.run("other") is None
    assert store.dataset("other") is None
    assert store.packages("other") == []


def test_writing_twice_changes_nothing(store: MetadataStore) -> None:
    """A record that is sent again after a doubtful answer is there once."""
    store.write(everything())
    before = answers(store)
    store.write(everything())
    assert answers(store) == before


def test_an_older_look_never_replaces_a_newer_one(store: MetadataStore) -> None:
    """Whoever read a directory before it changed, and writes after, does not bring the past back."""
    store.write([run(seen_s=100.0)])
    store.write([run(seen_s=99.0, status="running", finished_s=None)])
    assert [found.status for found in store.runs()] == ["finished"]
    store.write([run(seen_s=101.0, status="failed", error="the loss must be finite")])
    assert [(found.status, found.error) for found in store.runs()] == [("failed", "the loss must be finite")]


def test_metrics_are_added_or_replaced(store: MetadataStore) -> None:
    """A resumed run starts its history anew, up to its checkpoint; values of steps that it lost are gone."""
    key = key_of(1)
    store.write([RunMetrics(key, [Metric("loss", 1, 0, 1.0), Metric("loss", 2, 0, 2.0)])])
    store.write([RunMetrics(key, [Metric("loss", 2, 0, 3.0), Metric("loss", 3, 0, 4.0)])])
    assert [metric.value for metric in store.metrics(key)] == [1.0, 3.0, 4.0]
    store.write([RunMetrics(key, [Metric("loss", 1, 0, 5.0)], replaces=True)])
    assert [metric.value for metric in store.metrics(key)] == [5.0]


def test_checkpoints_are_those_that_there_are(store: MetadataStore) -> None:
    """A checkpoint that was pruned is not in the index either."""
    key = key_of(1)
    store.write([RunCheckpoints(key, [Checkpoint(step, "a" * 64, 1, is_best=False) for step in (1, 2)])])
    store.write([RunCheckpoints(key, [Checkpoint(step, "a" * 64, 1, is_best=False) for step in (2, 3)])])
    assert [checkpoint.step for checkpoint in store.checkpoints(key)] == [2, 3]


def test_what_is_forgotten_is_gone_with_all_that_belongs_to_it(store: MetadataStore) -> None:
    """A run that was deleted leaves no metrics, no checkpoints and no data set behind."""
    store.write(everything())
    store.forget(runs=[key_of(1)], packages=[PACKAGE])
    assert store.runs() == store.packages() == store.metrics(key_of(1)) == store.checkpoints(key_of(1)) == []
    assert store.dataset(dataset().key) is None


def test_a_batch_is_written_whole_or_not_at_all(store: MetadataStore) -> None:
    """One record that does not fit keeps the others of its transaction out."""
    store.write([run(2)])
    with pytest.raises((StateError, TransientError)):
        store.write([run(1), run(3, name="x" * 3, started_s="no number")])
    assert [found.name for found in store.runs()] == ["digits-002"]


def test_newest_first_and_no_more_than_asked(store: MetadataStore) -> None:
    """The list begins with the last run that was started."""
    store.write([run(number) for number in (2, 3, 1)] + [run(4, title="other", name="other-001")])
    assert [found.name for found in store.runs("digits", limit=2)] == ["digits-003", "digits-002"]
    assert [found.name for found in store.runs(limit=1)] == ["other-001"]


def test_no_text_breaks_a_database(store: MetadataStore) -> None:
    """NUL, lone surrogates, other alphabets and quotes from paths and messages are stored as something readable."""
    strange = "a\0b\udcff'\"; DROP TABLE corelane_runs; -- день 🙂"
    store.write([run(error=strange, directory=f"/runs/{strange}", config={"name": strange})])
    found = store.runs()[0]
    assert found.error == "a\\0b\\udcff'\"; DROP TABLE corelane_runs; -- день 🙂"
    assert found.config == {"name": strange}


# --- several processes ------------------------------------------------------------------------------------------------

WRITER = f"""
url, number = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
store = MetadataStore(url)
for index in range({NUM_RUNS}):
    for again in range(3):
        store.write(everything(100 * number + index))
print(store.generation)
"""


def test_processes_that_start_at_once_write_everything(url: str) -> None:
    """Real processes make, migrate and write one database at the same moment, and no record of any of them is lost."""
    children = [in_process(WRITER, url, str(number)) for number in range(NUM_PROCESSES)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * NUM_PROCESSES
    assert [output.strip() for output, _ in outputs] == ["1"] * NUM_PROCESSES
    with closing(MetadataStore(url)) as store:
        assert len(store.runs()) == NUM_PROCESSES * NUM_RUNS
        assert {len(store.metrics(found.key)) for found in store.runs()} == {10}
        assert len(store.packages()) == 1


KILLED = """
store = MetadataStore(sys.argv[1])
number = 0
while True:
    number += 1
    store.write(everything(number))
    print(number, flush=True)
"""


def test_what_was_written_survives_the_writers_death(url: str) -> None:
    """A process killed while it writes leaves a database with every record that it was told of, and none by halves."""
    child = in_process(KILLED, url)
    assert child.stdout is not None
    for _ in range(20):
        told = int(child.stdout.readline())
    child.kill()
    child.communicate()
    with closing(MetadataStore(url)) as store:
        found = store.runs()
        assert len(found) >= told
        assert all(len(store.metrics(one.key)) == 10 and len(store.checkpoints(one.key)) == 1 for one in found)


# --- versions of the database -----------------------------------------------------------------------------------------


def _add_note(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE corelane_runs ADD COLUMN note TEXT"))


def _fail(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE corelane_runs ADD COLUMN half TEXT"))
    raise StateError("a migration failed")


def test_a_database_is_brought_to_the_present_version(url: str, store: MetadataStore) -> None:
    """What an earlier release wrote is kept, and each step is taken once."""
    store.write(everything())
    before = answers(store)
    for _ in range(2):
        with closing(MetadataStore(url, migrations=[_add_note])) as newer:
            newer.write([])
    with _connected(url) as connection:
        assert list(connection.execute(text("SELECT note FROM corelane_runs"))) == [(None,)]
        connection.execute(text("ALTER TABLE corelane_runs DROP COLUMN note"))
        connection.execute(text("UPDATE corelane_schema_version SET version = 1"))
    assert answers(store) == before


def test_a_migration_that_fails_leaves_the_database_as_it_was(url: str, store: MetadataStore) -> None:
    """The steps are one transaction: the old release goes on with the old version."""
    store.write(everything())
    before = answers(store)
    with closing(MetadataStore(url, migrations=[_add_note, _fail])) as newer, pytest.raises(StateError):
        newer.write([])
    assert answers(store) == before


def test_a_newer_database_is_refused_with_advice(url: str, store: MetadataStore) -> None:
    """An old release does not write what it does not understand, and says what to do."""
    with closing(MetadataStore(url, migrations=[_add_note])) as newer:
        newer.write(everything())
    for call in (store.runs, lambda: store.write(everything(2))):
        with pytest.raises(StateError, match=r"version 1 or older, got 2.*upgrade Corelane"):
            call()


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """A connection beside the store's, in a transaction."""
    engine = make_engine(url, lambda event, fields: None)
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        yield connection
    engine.dispose()


MIGRATOR = """
import time
from sqlalchemy import text
def slow(connection):
    connection.execute(text("ALTER TABLE corelane_runs ADD COLUMN note TEXT"))
    time.sleep(0.3)
store = MetadataStore(sys.argv[1], migrations=[slow])
sys.stdin.readline()
store.write([])
"""


def test_two_processes_migrate_at_once(url: str, store: MetadataStore) -> None:
    """The second waits for the first and finds nothing left to do."""
    store.write(everything())
    children = [in_process(MIGRATOR, url) for _ in range(3)]
    for child in children:
        child.communicate("go\n", timeout=60)
    assert [child.returncode for child in children] == [0, 0, 0]


# --- which databases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mysql://root:geheim@host/db", "no url", "postgresql+nonsense", ""])
def test_another_kind_of_url_is_refused_without_its_password(url: str) -> None:
    """The two databases are named; what the user typed is shown but for the secret."""
    with pytest.raises(ConfigError, match=r"observe\.metadata must be sqlite") as caught:
        MetadataStore(url)
    assert "geheim" not in str(caught.value)


def test_the_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the error says which extra brings it."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(MissingDependencyError, match=r"corelane\[postgresql\]"):
        MetadataStore("postgresql://u@h/d")


def test_a_file_in_wal_mode(tmp_path: Path) -> None:
    """Readers do not wait for a writer, and the log does not stay behind."""
    path = tmp_path / "metadata.sqlite"
    with closing(MetadataStore(f"sqlite:///{path}")) as store:
        store.write(everything())
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            other.execute("BEGIN IMMEDIATE")
            assert store.runs() == [run()]


NETWORK = "36 25 {device} / / rw,relatime shared:1 - {kind} server:/export rw"


@pytest.mark.parametrize(("kind", "can"), [("nfs4", False), ("9p", False), ("ext4", True), ("tmpfs", True)])
def test_network_file_systems_are_known(tmp_path: Path, kind: str, can: bool) -> None:
    """Where machines share a folder but no memory, WAL is not used."""
    device = tmp_path.stat().st_dev
    line = NETWORK.format(device=f"{device >> 8 & 0xFFF}:{device & 0xFF | device >> 12 & 0xFFF00}", kind=kind)
    assert can_share_memory(tmp_path, mounts=line) is can


def test_without_wal_the_index_works_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On such a file system the store takes the older journal, and says once what that means."""
    for room in ("metadata", "metadata_engine"):
        monkeypatch.setattr(f"corelane.store.{room}.can_share_memory", lambda path: False)
    told: list[str] = []
    path = tmp_path / "metadata.sqlite"
    with closing(MetadataStore(f"sqlite:///{path}", tell=lambda event, fields: told.append(event))) as store:
        store.write(everything())
        store.write(everything(2))
        assert len(store.runs()) == 2
    assert told == ["metadata_without_wal"]
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_store_in_memory(tmp_path: Path) -> None:
    """It serves as a substitute where no file can be written."""
    with closing(MetadataStore("sqlite://")) as store:
        store.write(everything())
        assert answers(store)["runs"] == [run()]
