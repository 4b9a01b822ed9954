"""Prepared data: made once, found again, rebuilt when broken, and the same bytes whichever source it came from."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from corelane.core.errors import DataError, DiskFullError
from corelane.data import prepare as preparing
from corelane.data.column_config import ColumnConfig
from corelane.data.config import DataConfig, FileSystemConfig, MemoryConfig, PipelineConfig, SplitConfig
from corelane.data.prepare import prepare
from corelane.data.prepared import PreparedData
from corelane.data.processor import CPUDataProcessor
from corelane.data.source import DataSource
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.memory import InMemorySource
from corelane.data.split import part_of
from corelane.observe.log import SystemLogger
from corelane.observe.metrics import MetricsCollector
from corelane.store.tiers.disk import DiskTier
from tests.capabilities import FASHION_MNIST

SPLIT = SplitConfig()
NUM_ROWS = 400


def _columns(num_rows: int = NUM_ROWS) -> dict[str, list[Any]]:
    generator = np.random.default_rng(3)
    numbers = [None if index == 7 else round(value, 6) for index, value in enumerate(generator.normal(size=num_rows))]
    return {
        "size": numbers,
        "colour": [("red", "green", "blue")[index % 3] for index in range(num_rows)],
        "grade": [("good", "bad")[index // 3 % 2] for index in range(num_rows)],
    }


def _config(**changes: Any) -> DataConfig:
    return DataConfig(**{"source": MemoryConfig(), "target": "grade", **changes})


class _Preparer:
    """`prepare` with the arguments that most tests share; `events` are what was logged."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.quarantine = folder / "run" / "quarantine.parquet"
        self.log = io.StringIO()
        self.metrics = MetricsCollector()

    def __call__(self, source: DataSource, config: DataConfig | None = None, **changes: Any) -> PreparedData:
        arguments = {"seed": 7, "quarantine": self.quarantine, **changes}
        with SystemLogger(stream=self.log, metrics=self.metrics) as logger, CPUDataProcessor(2) as processor:
            cache = DiskTier(self.cache, tell=lambda event, fields: logger.data.warning(event, **fields))
            return prepare(
                source,
                config or _config(),
                PipelineConfig(),
                **{"cache": cache, "logger": logger, "processor": processor, **arguments},
            )

    def refused(self) -> list[dict[str, Any]]:
        return pq.read_table(self.quarantine).to_pylist()

    def entries(self) -> list[Path]:
        return sorted((self.cache / "prepared").iterdir())


@pytest.fixture
def prepared(tmp_path: Path) -> _Preparer:
    """A preparer with an empty cache."""
    return _Preparer(tmp_path)


def _bytes(data: PreparedData) -> list[bytes]:
    parts = (data.train, data.validation, data.test)
    return [array.tobytes() for part in parts for array in (*part.inputs.values(), part.target, part.positions)]


def test_rows_are_divided_by_position_and_kept_in_order(prepared: _Preparer) -> None:
    """Every row is in the part that the split says, in source order, with its label encoded."""
    data = prepared(InMemorySource(_columns()))
    parts = part_of(7, np.arange(NUM_ROWS), SPLIT)
    for number, part in enumerate((data.train, data.validation, data.test)):
        assert part.positions.tolist() == np.flatnonzero(parts == number).tolist()
        labels = [data.pipeline.target.labels[int(index)] for index in part.target]
        assert labels == [_columns()["grade"][position] for position in part.positions]
        assert part.inputs["features"].shape == (part.num_rows, *data.pipeline.outputs["features"].shape)
        assert part.inputs["features"].dtype == np.float32
    assert data.num_rejected == 0
    assert prepared.refused() == []


class _Measuring(CPUDataProcessor):
    """Remembers the bytes of the largest arrays among the results of `map`."""

    largest = 0

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for piece in super().map(function, items):
            parts = getattr(piece, "arrays", ())
            self.largest = max(self.largest, sum(values.nbytes for part in parts for values in part.values()))
            yield piece


def test_many_categories_are_transformed_in_bounded_pieces(prepared: _Preparer) -> None:
    """One-hot rows are hundreds of times their texts: what is in memory at a time is bounded as arrays, not as rows."""
    num_rows = 5000
    texts = {f"c{column}": [str((row * 7 + column) % 97) + "x" for row in range(num_rows)] for column in range(10)}
    with _Measuring(1) as processor:
        data = prepared(InMemorySource({**texts, **_columns(num_rows)}), processor=processor)
    assert data.train.inputs["features"].nbytes > 12 << 20
    assert 0 < processor.largest <= 8 << 20


def test_arrays_are_what_the_pipeline_says_and_fitted_on_training_rows_only(prepared: _Preparer) -> None:
    """The stored inputs equal the fitted pipeline applied to the checked rows; the training part alone has mean 0."""
    data = prepared(InMemorySource(_columns()))
    raw = pa.RecordBatch.from_pydict(_columns())
    checked = data.pipeline.schema.check(raw, needs_target=True)
    expected = data.pipeline.transform(checked.rows)["features"]
    for part in (data.train, data.validation, data.test):
        assert np.array_equal(part.inputs["features"], expected[part.positions])
    numbers = np.delete(np.arange(data.train.num_rows), np.flatnonzero(data.train.positions == 7))
    assert abs(float(data.train.inputs["features"][numbers, 0].astype(np.float64).mean())) < 1e-6


def test_rows_that_are_held_out_teach_the_pipeline_nothing(prepared: _Preparer) -> None:
    """Other numbers and categories in the validation and the test part leave every statistic as it was, bit for bit."""
    columns = _columns()
    first = prepared(InMemorySource(columns))
    for position in [*first.validation.positions, *first.test.positions]:
        columns["size"][position] = 1e6 + float(position)
        columns["colour"][position] = "violet"
    second = prepared(InMemorySource(columns))
    assert second.pipeline.to_json() == first.pipeline.to_json()
    assert second.train.inputs["features"].tobytes() == first.train.inputs["features"].tobytes()
    columns["size"][int(first.train.positions[0])] = 1e6
    assert prepared(InMemorySource(columns)).pipeline.to_json() != first.pipeline.to_json()


def test_a_second_training_finds_it(prepared: _Preparer) -> None:
    """The same data and configuration hit the cache: nothing is transformed, contents and digest are equal."""
    first = prepared(InMemorySource(_columns()))
    second = prepared(InMemorySource(_columns()))
    assert '"was_cached":true' in prepared.log.getvalue()
    assert first.digest == second.digest
    assert _bytes(first) == _bytes(second)
    assert first.calibration.equals(second.calibration)
    assert len(prepared.entries()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"config": _config(split=SplitConfig(test=0.3))},
        {"config": _config(columns={"size": ColumnConfig(maximum=100.0)})},
        {"source": InMemorySource({**_columns(), "grade": ["good", "bad"] * (NUM_ROWS // 2)})},
    ],
    ids=["seed", "split", "schema", "data"],
)
def test_whatever_matters_makes_another_entry(prepared: _Preparer, change: dict[str, Any]) -> None:
    """A14: Another seed, split, schema or content is prepared anew."""
    first = prepared(InMemorySource(_columns()))
    arguments: dict[str, Any] = {"source": InMemorySource(_columns()), **change}
    assert prepared(**arguments).digest != first.digest
    assert len(prepared.entries()) == 2


def _as_memory(folder: Path) -> DataSource:
    return InMemorySource(_columns(), batch_rows=17)


def _as_csv(folder: Path) -> DataSource:
    pyarrow.csv.write_csv(pa.table(_columns()), folder / "rows.csv")
    return FileSystemSource(FileSystemConfig(path="rows.csv", batch_rows=100), folder)


def _as_parquet(folder: Path) -> DataSource:
    pq.write_table(pa.table(_columns()), folder / "rows.parquet")
    return FileSystemSource(FileSystemConfig(path="rows.parquet", batch_rows=33), folder)


def test_the_same_rows_train_the_same_bytes_whichever_source(prepared: _Preparer, tmp_path: Path) -> None:
    """Under one declared schema a CSV, a Parquet file and memory give the same digest, pipeline and bytes."""
    declared = {
        "size": ColumnConfig(kind="numeric", nullable=True),
        "colour": ColumnConfig(kind="categorical", nullable=False),
        "grade": ColumnConfig(kind="categorical", nullable=False),
    }
    config = _config(columns=declared, task="classification")
    results = [prepared(make(tmp_path), config) for make in (_as_memory, _as_csv, _as_parquet)]
    assert len({data.pipeline.digest for data in results}) == 1
    assert len({data.digest for data in results}) == 1
    assert _bytes(results[0]) == _bytes(results[1]) == _bytes(results[2])
    assert results[0].gate.equals(results[1].gate)
    assert results[0].calibration.equals(results[2].calibration)


@pytest.mark.parametrize(("num_workers", "batch_rows"), [(0, 1000), (1, 77), (3, 50_000)])
def test_neither_threads_nor_batches_change_a_byte(
    prepared: _Preparer, tmp_path: Path, num_workers: int, batch_rows: int
) -> None:
    """However many threads prepare, and in whichever batches the rows come, texts as dictionaries or not: the same."""
    columns = _columns(40_000)
    columns["colour"][::50] = [None] * 800
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=9000)
    expected = prepared(InMemorySource(columns))
    source = FileSystemSource(FileSystemConfig(path="rows.parquet", batch_rows=batch_rows), tmp_path)
    with CPUDataProcessor(num_workers) as processor:
        data = prepared(source, processor=processor)
    assert data.digest == expected.digest
    assert _bytes(data) == _bytes(expected)
    assert data.calibration.equals(expected.calibration)


def test_refused_rows_are_quarantined_with_place_and_reason(prepared: _Preparer, tmp_path: Path) -> None:
    """A bad cell, a missing target and a torn line cost one row each, named with the reason, also on a hit."""
    lines = ["size,grade", *(f"{index},{('good', 'bad')[index % 2]}" for index in range(200))]
    lines[17] = "seventeen,good"
    lines[30] = "5,"
    lines[40] = "1,2,3"
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    config = _config(source=FileSystemConfig(path="rows.csv"))
    for _ in range(2):
        data = prepared(FileSystemSource(FileSystemConfig(path="rows.csv"), tmp_path), config)
        refused = {row["row_number"]: row for row in prepared.refused()}
        assert sorted(refused) == [17, 30, 40]
        assert refused[17]["column"] == "size"
        assert "seventeen" in refused[17]["reason"]
        assert refused[17]["row"] == '{"size": "seventeen", "grade": "good"}'
        assert refused[30]["column"] == "grade"
        assert refused[40]["code"] == "unreadable_row"
        assert {row["source"] for row in refused.values()} == {"data"}
        assert data.num_rejected == 3
        assert b'corelane_data_rejected_rows_total{reason="not_a_number"} 1.0' in prepared.metrics.render()
        kept = np.concatenate([part.positions for part in (data.train, data.validation, data.test)])
        assert sorted(kept.tolist()) == [index for index in range(200) if index + 1 not in (17, 30, 40)]
        prepared.quarantine.unlink()


def test_too_many_refused_rows_stop_and_can_be_looked_at(prepared: _Preparer) -> None:
    """Above `max_rejected` preparing fails with the first reason; the quarantine is there, the cache entry is not."""
    columns = _columns()
    columns["size"] = ["x" if index % 10 == 2 else str(index) for index in range(NUM_ROWS)]
    config = _config(columns={"size": ColumnConfig(kind="numeric")})
    with pytest.raises(DataError, match=r"got 40 of 400; the first is row 3: .*'x'"):
        prepared(InMemorySource(columns), config)
    assert len(prepared.refused()) == 40
    assert prepared.entries() == []


def test_a_label_training_never_saw_is_refused(prepared: _Preparer) -> None:
    """A label that only occurs outside the training part is quarantined with that reason, and not encoded."""
    parts = part_of(7, np.arange(NUM_ROWS), SPLIT)
    columns = _columns()
    position = int(np.flatnonzero(parts == 2)[3])
    columns["grade"][position] = "strange"
    data = prepared(InMemorySource(columns))
    (row,) = prepared.refused()
    assert (row["position"], row["column"], row["code"]) == (position, "grade", "unseen_label")
    assert "strange" in row["reason"]
    assert position not in data.test.positions
    assert "strange" not in data.pipeline.target.labels


def test_a_test_source_is_the_test_part(prepared: _Preparer) -> None:
    """With a test set of its own no row of the source is held out, and its rows are named by their own source."""
    test = {name: values[:50] for name, values in _columns().items()}
    test["grade"][4] = "strange"
    data = prepared(InMemorySource(_columns()), test_source=InMemorySource(test))
    assert data.train.num_rows + data.validation.num_rows == NUM_ROWS
    assert data.test.positions.tolist() == [index for index in range(50) if index != 4]
    assert [(row["source"], row["position"]) for row in prepared.refused()] == [("test", 4)]


def test_another_version_of_the_code_makes_another_entry(prepared: _Preparer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A14: What another release prepared is not taken for what this one would: the key has the passes' version."""
    prepared(InMemorySource(_columns()))
    monkeypatch.setattr(preparing, "_VERSION", preparing._VERSION + 1)
    prepared(InMemorySource(_columns()))
    assert len(prepared.entries()) == 2


def _png(value: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("library", "concerned"), [(np, {"table", "pictures"}), (pa, {"table", "pictures"}), (PIL, {"pictures"})]
)
def test_another_version_of_a_library_makes_another_entry(
    prepared: _Preparer, monkeypatch: pytest.MonkeyPatch, library: ModuleType, concerned: set[str]
) -> None:
    """What a library computed or decoded is not taken for what an updated one would; Pillow's only where it decodes."""
    grades = _columns()["grade"]
    pictures = {"picture": [_png(index % 256) for index in range(NUM_ROWS)], "grade": grades}
    for name, columns in {"table": _columns(), "pictures": pictures}.items():
        folders = [prepared.cache / kind for kind in ("prepared", "schemas")]
        prepared(InMemorySource(columns))
        before = [len(list(folder.iterdir())) for folder in folders]
        with monkeypatch.context() as updated:
            updated.setattr(library, "__version__", "0")
            prepared(InMemorySource(columns))
        more = int(name in concerned)
        assert [len(list(folder.iterdir())) for folder in folders] == [count + more for count in before]


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_corrupted_entry_is_rebuilt(prepared: _Preparer, damage: str) -> None:
    """A14: One flipped byte in an array, or a cut file, is found at the start; the entry is made again, and told."""
    digest = prepared(InMemorySource(_columns())).digest
    path = prepared.entries()[0] / "train" / "0.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:] if damage == "flip" else whole[:-100])
    data = prepared(InMemorySource(_columns()))
    assert data.digest == digest
    assert path.read_bytes() == whole
    assert "cache_entry_broken" in prepared.log.getvalue()


def test_samples_are_bounded_checked_rows_of_their_part(prepared: _Preparer) -> None:
    """Calibration, holdout and gate hold at most 1,000 checked rows of training, validation and test."""
    columns = {**_columns(6000), "size": [float(index) for index in range(6000)]}
    data = prepared(InMemorySource(columns))
    sizes = data.calibration.num_rows, data.holdout.num_rows, data.gate.num_rows
    assert sizes == (1000, data.validation.num_rows, 1000)
    assert data.gate.schema.names == ["size", "colour", "grade"]
    assert data.gate.schema.field("size").type == pa.float64()
    tested = {columns["size"][position] for position in data.test.positions}
    assert set(data.gate["size"].to_pylist()) <= tested
    assert set(data.calibration["size"].to_pylist()).isdisjoint(tested)


def test_without_a_test_part_the_gate_has_other_rows(prepared: _Preparer) -> None:
    """With nothing held out the gate takes validation rows; empty parts have arrays of no rows."""
    data = prepared(InMemorySource(_columns()), _config(split=SplitConfig(test=0.0)))
    assert data.test.num_rows == 0
    assert data.test.inputs["features"].shape[0] == 0
    assert data.gate.equals(data.holdout)


def test_regression_targets_are_standardised_floats(prepared: _Preparer) -> None:
    """A numeric target is kept as float32 with the training part's mean taken out."""
    columns = {"size": list(np.linspace(0, 1, 200)), "price": list(np.linspace(100, 300, 200))}
    data = prepared(InMemorySource(columns), _config(target="price"))
    assert data.train.target.dtype == np.float32
    assert abs(float(data.train.target.mean())) < 1e-5


def test_fold_parts_cover_every_row_once(prepared: _Preparer) -> None:
    """The test parts of all folds together are all rows, each once."""
    tested = []
    for fold in range(4):
        config = _config(split=SplitConfig(num_folds=4, fold=fold))
        tested += prepared(InMemorySource(_columns()), config).test.positions.tolist()
    assert sorted(tested) == list(range(NUM_ROWS))


def test_empty_and_hopeless_data_are_one_clear_error(prepared: _Preparer) -> None:
    """No rows, and no label twice, are a `DataError`; nothing is left in the cache."""
    with pytest.raises(DataError, match="row"):
        prepared(InMemorySource({"size": np.array([], float), "grade": np.array([], str)}))
    with pytest.raises(DataError, match="grade"):
        prepared(InMemorySource({"size": [1.0, 2.0, 3.0], "grade": ["good"] * 3}))


PREPARE = """
import sys
from pathlib import Path
from corelane.data.config import DataConfig, FileSystemConfig, PipelineConfig
from corelane.data.prepare import prepare
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.observe.log import SystemLogger
from corelane.store.tiers.disk import DiskTier
folder = Path(sys.argv[1])
source = FileSystemConfig(path="rows.csv")
config = DataConfig(source=source, target="grade")
with SystemLogger() as logger:
    print("ready", flush=True)
    sys.stdin.readline()
    data = prepare(
        FileSystemSource(source, folder),
        config,
        PipelineConfig(),
        seed=7,
        cache=DiskTier(folder / "cache"),
        quarantine=folder / sys.argv[2],
        logger=logger,
    )
print(data.digest, data.train.num_rows)
"""


def test_two_processes_preparing_the_same_do_not_hurt_each_other(tmp_path: Path) -> None:
    """A14: Started at the same moment on an empty cache, both succeed with the same content and leave one entry."""
    pyarrow.csv.write_csv(pa.table(_columns(20_000)), tmp_path / "rows.csv")
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    pipes: dict[str, Any] = {**dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE), "text": True}
    with (
        subprocess.Popen([*command, "a.parquet"], **pipes) as one,
        subprocess.Popen([*command, "b.parquet"], **pipes) as two,
    ):
        for process in (one, two):
            assert process.stdout.readline() == "ready\n"
        for process in (one, two):
            process.stdin.write("\n")
            process.stdin.flush()
        results = [process.communicate(timeout=60) for process in (one, two)]
    assert results[0][0] == results[1][0] != "", results
    assert [path.name for path in (tmp_path / "cache" / "prepared").iterdir() if path.name.startswith(".")] == []
    assert len(list((tmp_path / "cache" / "prepared").iterdir())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.needs("mount")
def test_a_full_cache_disk_falls_back_to_memory(prepared: _Preparer, small_disk: Path) -> None:
    """A15: What does not fit on the cache's disk is kept in memory, byte for byte and digest for digest the same."""
    columns = _columns(20_000)
    on_disk = prepared(InMemorySource(columns))
    in_memory = prepared(InMemorySource(columns), cache=DiskTier(small_disk))
    assert in_memory.digest == on_disk.digest
    assert _bytes(in_memory) == _bytes(on_disk)
    assert in_memory.gate.equals(on_disk.gate)
    assert "cache_disk_full" in prepared.log.getvalue()


@pytest.mark.needs("mount")
def test_a_full_cache_disk_takes_older_entries_first(prepared: _Preparer, small_disk: Path) -> None:
    """A15: Prepared data that fit once an older entry has gone are kept on disk and not in memory."""
    cache = DiskTier(small_disk)
    sizes = [prepared(InMemorySource(_columns(2000)), cache=cache, seed=seed).train.num_rows for seed in (1, 2, 3)]
    assert min(sizes) > 1000
    assert "cache_disk_full" not in prepared.log.getvalue()
    assert cache.meter.counts.evictions > 0


def test_old_entries_go_when_the_cache_is_above_its_bound(prepared: _Preparer) -> None:
    """What was prepared for other seeds goes, the least recently used first; what a training uses stays."""
    used = prepared(InMemorySource(_columns()), seed=0)
    limit = 4 * sum(path.stat().st_size for path in prepared.entries()[0].rglob("*") if path.is_file())
    for seed in range(1, 8):
        prepared(InMemorySource(_columns()), seed=seed, cache=DiskTier(prepared.cache, limit))
    assert 2 <= len(prepared.entries()) <= 4
    again = prepared(InMemorySource(_columns()), seed=0)
    assert again.digest == used.digest
    assert prepared.log.getvalue().count('"was_cached":true') == 1


def test_data_above_the_bound_are_kept_in_memory(prepared: _Preparer) -> None:
    """A cache that may not hold them is as a disk that cannot: memory, the same bytes, told once."""
    expected = prepared(InMemorySource(_columns()))
    data = prepared(InMemorySource(_columns()), cache=DiskTier(prepared.cache.parent / "small", 1000))
    assert data.digest == expected.digest
    assert _bytes(data) == _bytes(expected)
    assert prepared.log.getvalue().count("cache_disk_full") == 1


@pytest.mark.needs("mount")
def test_a_full_disk_and_too_little_memory_say_how_many_bytes_are_needed(prepared: _Preparer, small_disk: Path) -> None:
    """A15: Where neither disk nor memory has room, the error names the bytes needed, and nothing is left behind."""
    with pytest.raises(DiskFullError, match=r"must have \d{6,} bytes free"):
        prepared(InMemorySource(_columns(20_000)), cache=DiskTier(small_disk), memory_budget_bytes=1000)
    assert list((small_disk / "prepared").iterdir()) == []


def test_a_killed_preparation_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Killed in the middle of writing, the next attempt removes the leftovers and prepares as if nothing had been."""
    pyarrow.csv.write_csv(pa.table(_columns(200_000)), tmp_path / "rows.csv")
    command = [sys.executable, "-c", PREPARE, str(tmp_path), "killed.parquet"]
    entries = tmp_path / "cache" / "prepared"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        while not list(entries.glob(".*.tmp/train/0.npy")):
            assert process.poll() is None, "it must still be at work"
        process.kill()
    assert [path.suffix for path in entries.iterdir()] == [".tmp"]
    source = FileSystemConfig(path="rows.csv")
    data = _Preparer(tmp_path)(FileSystemSource(source, tmp_path), _config(source=source))
    assert data.train.num_rows > 100_000
    assert [path.suffix for path in entries.iterdir()] == [""]


STREAM = """
import io, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from corelane.data.batch import Batch, Cursor, Fingerprint
from corelane.data.config import DataConfig, MemoryConfig, PipelineConfig
from corelane.data.prepare import prepare
from corelane.observe.log import SystemLogger
from corelane.store.tiers.disk import DiskTier

BLOCK = np.random.default_rng(0).random((1000, 784), np.float32)

class Stream:
    name = "stream"
    is_local = True

    def schema(self):
        return next(self.batches()).rows.schema
    def fingerprint(self):
        return Fingerprint("content", "stream")
    def batches(self, start=None):
        for first in range(0, int(sys.argv[2]), 1000):
            x = BLOCK + np.float32(first % 7)
            tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(x)
            rows = pa.RecordBatch.from_arrays([tensor, pa.array(np.arange(1000) % 10)], names=["x", "y"])
            yield Batch(rows, first, Cursor("stream", "stream", first + 1000))

folder = Path(sys.argv[1])
config = DataConfig(source=MemoryConfig(), target="y", task="classification")
with SystemLogger(stream=io.StringIO()) as logger:
    data = prepare(Stream(), config, PipelineConfig(), seed=7, cache=DiskTier(folder / sys.argv[2]),
                   quarantine=folder / "quarantine.parquet", logger=logger)
assert data.train.num_rows > 0.7 * int(sys.argv[2])
# Not ru_maxrss: a process inherits that of its parent.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Four times the rows (282 MB more of prepared arrays) take no more than 80 MB more memory at the peak."""
    peaks = []
    for num_rows in (30_000, 120_000):
        command = [sys.executable, "-c", STREAM, str(tmp_path), str(num_rows)]
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        peaks.append(int(result.stdout) / 1024)
    assert peaks[1] - peaks[0] < 80, peaks


@pytest.mark.needs("fashion-mnist")
def test_sixty_thousand_images_prepare_well_under_fifteen_seconds(prepared: _Preparer) -> None:
    """Fashion-MNIST's 60,000 images are read, checked, fitted, transformed and published within the promised time."""
    files = [FASHION_MNIST / f"train-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]
    source = FileSystemConfig(path=str(files[0]), labels=str(files[1]))
    start = time.monotonic()
    data = prepared(FileSystemSource(source), _config(source=source, target="label", task="classification"))
    assert time.monotonic() - start < 15
    assert sum(part.num_rows for part in (data.train, data.validation, data.test)) == 60_000
