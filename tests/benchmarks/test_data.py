"""The data benchmark's own pieces: data that are the same every time, engines that make the same, limits that hold."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.data import database, generate, ours
from benchmarks.data.cases import CASES, MISSING_SHARE
from benchmarks.data.engine import module_of
from benchmarks.data.limits import inside, memory_limit
from benchmarks.data.peers import disk, pandas, torch_dataloader
from benchmarks.measure import OURS, ROOT, BenchmarkError, run_json

NUM_ROWS = 3000


def test_every_case_has_its_engines():
    """Each case runs on our side and on every peer that it names."""
    assert set(ours._CASES) == set(CASES)
    for peer in {peer for case in CASES.values() for peer in case.peers}:
        assert callable(importlib.import_module(module_of(peer)).run)


def test_the_table_is_the_defined_one_and_always_the_same(tmp_path):
    """20 numbers, 10 categories of 10 levels, 2 % missing, three labels; the same bytes in another folder."""
    path = generate.table(tmp_path / "a", NUM_ROWS)
    assert path.read_bytes() == generate.table(tmp_path / "b", NUM_ROWS).read_bytes()
    table = pq.read_table(path)
    assert table.shape == (NUM_ROWS, 31)
    assert len(set(table["category_3"].drop_null().to_pylist())) == 10
    assert set(table["label"].to_pylist()) == {0, 1, 2}
    missing = sum(column.null_count for column in table.columns) / (30 * NUM_ROWS)
    assert abs(missing - MISSING_SHARE) < 0.005


def test_what_is_generated_is_found_again(tmp_path):
    """A second run reads the file of the first; a half written one is not taken for it."""
    path = generate.table(tmp_path, NUM_ROWS)
    written = path.stat().st_mtime_ns
    assert generate.table(tmp_path, NUM_ROWS).stat().st_mtime_ns == written
    folder = tmp_path / f".arrays-{NUM_ROWS}x8-v{generate._VERSION}.unfinished"
    folder.mkdir()
    assert np.load(generate.arrays(tmp_path, NUM_ROWS, 8) / "0.npy").shape == (NUM_ROWS, 8)
    assert not folder.exists()


def test_ours_prepares_the_parts_that_the_peer_is_given(tmp_path):
    """An engine of its own process makes arrays of the sizes that the file of parts says."""
    table, parts = generate.table(tmp_path, NUM_ROWS), np.load(generate.parts(tmp_path, NUM_ROWS))
    inputs = json.dumps({"scratch": str(tmp_path), "table": str(table)})
    command = [sys.executable, "-m", "benchmarks.data.engine", OURS, "parquet-prepare", inputs]
    seen = run_json(command, timeout_s=120)
    assert seen["shapes"] == [[int(count), 30] for count in np.bincount(parts)]
    assert seen["value"] > 0
    assert seen["peak_bytes"] > 10 << 20


@pytest.mark.parametrize("width", [32, 784])
def test_batches_are_counted_by_every_engine(tmp_path, monkeypatch, width):
    """Ours and the peers give a positive rate over the same arrays."""
    monkeypatch.setattr(torch_dataloader, "_WORKERS", (0,))
    inputs = {"arrays": str(generate.arrays(tmp_path, NUM_ROWS, width)), "epochs": "2"}
    for name in ("batches-random", "batches-3x-memory"):
        case = CASES[name]
        assert ours.run(case, inputs)["value"] > 0
        assert torch_dataloader.run(case, inputs)["value"] > 0
    assert disk.run(CASES["batches-3x-memory"], inputs)["value"] > 0


def test_a_second_start_gives_a_batch(tmp_path):
    """The first batch comes, whether the cache was filled before or not."""
    inputs = {"table": str(generate.table(tmp_path, NUM_ROWS)), "cache": str(tmp_path / "cache")}
    for _ in range(2):
        assert 0 < ours.run(CASES["second-start"], inputs)["value"] < 60


@pytest.mark.needs("postgres")
def test_both_read_all_rows_of_the_database():
    """20 columns of every row, by us and by pandas."""
    case = CASES["postgres-read"]
    with database.server_with_table(NUM_ROWS) as url:
        inputs = {"url": url, "name": database.TABLE}
        shapes = [engine.run(case, inputs)["shapes"] for engine in (ours, pandas)]
    assert shapes == [[[NUM_ROWS, 20]]] * 2


@pytest.mark.needs("memory-cgroup")
def test_a_limit_ends_what_exceeds_it():
    """A process within the limit runs; one that takes more is killed; the group goes with the context."""
    take = [sys.executable, "-c", "import sys; bytearray(b'1') * (int(sys.argv[1]) << 20)"]
    with memory_limit(64 << 20) as group:
        few, many = (subprocess.run(inside(group, [*take, size]), check=False).returncode for size in ("8", "200"))
    assert (few, many) == (0, -9)
    assert not group.exists()


def test_a_limit_that_cannot_be_made_is_told(tmp_path):
    """Without control groups the benchmark says what it needs."""
    with (
        pytest.raises(BenchmarkError, match="run as root, or leave the case out"),
        memory_limit(1 << 20, tmp_path / "nothing"),
    ):
        pass


def test_a_unified_hierarchy_has_another_file(tmp_path):
    """Without a folder of the memory controller the limit is `memory.max`."""
    with memory_limit(1 << 20, tmp_path) as group:
        limit = group / "memory.max"
        assert limit.read_text() == str(1 << 20)
        limit.unlink()  # a real group's files go with it


def test_missing_images_are_told_with_what_to_install(tmp_path):
    """Without Fashion-MNIST the augmentation case says what to install and ends with 2."""
    command = [sys.executable, "-m", "benchmarks.data", "--quick", "--case", "augment-cnn", "--images", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "apt-get install dataset-fashion-mnist" in done.stderr
    assert done.stdout == ""
