"""Files that are damaged, special, out of bounds or changing: a row or a clear error, never a hang or a mixture."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corelane.core.errors import ConfigError, DataError, SourceReadError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem import npz_format
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.store.tiers.disk import DiskTier
from tests.servers.s3 import Bucket


def source(folder: Path, path: str, told: list[Any] | None = None, **config: Any) -> FileSystemSource:
    heard = [] if told is None else told
    return FileSystemSource(
        FileSystemConfig(path=path, **config), folder, tell=lambda event, fields: heard.append((event, fields))
    )


def rows_of(made: FileSystemSource) -> list[dict[str, Any]]:
    return [row for batch in made.batches() for row in batch.rows.to_pylist()]


# --- special files and links (C13, C14) -------------------------------------------------------------------------------


def test_special_files_in_a_folder_are_skipped_and_told(tmp_path: Path) -> None:
    """C13: A pipe cannot hang a listing, nor a socket or a hidden file be taken for rows."""
    (tmp_path / "rows.csv").write_text("a\n1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / ".hidden.csv").write_text("b\n1\n")
    (tmp_path / "_SUCCESS").write_text("")
    told: list[Any] = []
    assert rows_of(source(tmp_path, ".", told, format="csv")) == [{"a": "1"}]
    assert told == [("special_file_skipped", {"path": str(tmp_path / "pipe.csv")})]


@pytest.mark.parametrize("name", ["pipe.csv", "/dev/null", "/dev/zero"])
def test_a_special_file_that_is_named_is_refused(tmp_path: Path, name: str) -> None:
    """C13: A pipe or a device is no file of rows; nothing waits for it."""
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="must be a file, got something else"):
        source(tmp_path, name, format="csv")


def test_a_pipe_put_in_a_files_place_does_not_hang(tmp_path: Path) -> None:
    """C13: Between the listing and the reading the file became a pipe: an error at once."""
    (tmp_path / "rows.csv").write_text("a\n1\n")
    made = source(tmp_path, "rows.csv")
    (tmp_path / "rows.csv").unlink()
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises((DataError, SourceReadError)):
        rows_of(made)


def test_links_that_lead_out_are_refused_and_circles_end(tmp_path: Path) -> None:
    """C13, C14: A link in the folder may point within it, not elsewhere; a link to a parent folder is not walked."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "a.csv").write_text("a\n1\n")
    (inside / "loop").symlink_to(inside)
    (inside / "b.csv").symlink_to(inside / "a.csv")
    assert rows_of(source(tmp_path, "in", format="csv")) == [{"a": "1"}] * 2
    (outside / "secret.csv").write_text("a\nsecret\n")
    (inside / "c.csv").symlink_to(outside / "secret.csv")
    for path in ("in", "in/*.csv", "in/**/*.csv"):
        with pytest.raises(DataError, match=r"c\.csv must lie in .* when links are followed"):
            source(tmp_path, path, format="csv")
    (inside / "c.csv").unlink()
    (inside / "d.csv").symlink_to("d.csv")
    with pytest.raises(DataError, match=r"d\.csv must be readable"):
        source(tmp_path, "in", format="csv")


@pytest.mark.parametrize("path", ["../secret.csv", "sub/../../secret.csv", "/etc/passwd", "link.csv"])
def test_a_path_cannot_leave_its_root(tmp_path: Path, path: str) -> None:
    """C14: With `root`, a file outside it is refused however it is written."""
    (tmp_path / "secret.csv").write_text("a\n1\n")
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(DataError, match="must lie in"):
        source(tmp_path / "root", path, format="csv", root=".")


def test_files_that_appear_are_not_read_and_files_that_vanish_are_missed(tmp_path: Path) -> None:
    """C13: The listing is made once: additions are not in it, and a file that is gone or changed is an error."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a\n1\n")
    made = source(tmp_path, ".")
    (tmp_path / "c.csv").write_text("a\n2\n")
    assert rows_of(made) == [{"a": "1"}] * 2
    (tmp_path / "b.csv").write_text("a\n1\n2\n")
    with pytest.raises(DataError, match=r"b\.csv must not change while it is read"):
        rows_of(made)
    (tmp_path / "b.csv").unlink()
    with pytest.raises(DataError, match=r"b\.csv must be a readable file"):
        rows_of(made)


# --- partitions -------------------------------------------------------------------------------------------------------


def test_folders_named_by_key_and_value_are_columns(tmp_path: Path) -> None:
    """Partitions as Hive writes them, its null among them; a column of the file and of a folder is told."""
    for index, folder in enumerate(
        ["year=2024/month=1", "year=2024/month=__HIVE_DEFAULT_PARTITION__", "year=2025/month=2"]
    ):
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table({"a": [index]}), tmp_path / folder / "part.parquet")
    made = source(tmp_path, ".")
    assert rows_of(made) == [
        {"a": 0, "year": "2024", "month": "1"},
        {"a": 1, "year": "2024", "month": None},
        {"a": 2, "year": "2025", "month": "2"},
    ]
    before = made.fingerprint()
    (tmp_path / "year=2025").rename(tmp_path / "year=2026")
    assert source(tmp_path, ".").fingerprint() != before
    (tmp_path / "year=2026" / "month=2" / "part.parquet").unlink()
    pq.write_table(pa.table({"a": [1], "year": [1]}), tmp_path / "year=2026" / "month=2" / "part.parquet")
    with pytest.raises(DataError, match="must not have the column 'year', its folder has it too"):
        source(tmp_path, ".")


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_a_bad_line_costs_its_row(tmp_path: Path) -> None:
    """C11: Lines that are no JSON, no object, or have other keys are named by place; the rest stays in order."""
    lines = [
        '{"a": 1, "v": [1, 2]}',
        "{",
        "[1]",
        '{"a": 2, "zz": 0}',
        '{"a": 3, "v": "x"}',
        "",
        '{"a": null}',
        '{"a": true}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(['{"a": 0, "v": [0, 1]}', *lines]) + "\n")
    # the first rows decide the columns: "zz" is among them here, and v is text because of "x"
    made = source(tmp_path, "rows.jsonl")
    broken = [row for batch in made.batches() for row in batch.broken]
    assert [row.position for row in broken] == [2, 3]
    assert [row["a"] for row in rows_of(made)] == ["0", "1", "2", "3", None, "true"]


def test_keys_after_the_first_rows_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C11: A key that comes late breaks its row, with its name."""
    monkeypatch.setattr("corelane.data.sources.filesystem.jsonl_format.FIRST_ROWS", 3)
    rows = [{"a": 1, "v": [1.0]}] * 3 + [{"a": 1, "b": 2}, {"a": 1, "v": "x"}, {"a": 2, "v": [2.5]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (batch,) = source(tmp_path, "rows.jsonl").batches()
    assert [row.reason for row in batch.broken] == [
        "must have the keys of the first rows, got another: 'b'",
        "v must be a list of numbers as in the first rows",
    ]
    assert batch.positions.tolist() == [0, 1, 2, 5]
    assert batch.rows.column("v").to_pylist()[-1] == [2.5]


def test_a_line_without_end_is_one_broken_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C11: A line beyond the bound is skipped in pieces, whatever its length, and the next one is read."""
    monkeypatch.setattr("corelane.data.sources.filesystem.jsonl_format.MAX_LINE_BYTES", 1000)
    long = '{"a": "' + "x" * (3 << 20) + '"}'
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' + long + '\n{"a": 2}\n')
    batches = list(source(tmp_path, "rows.jsonl").batches())
    assert [row.position for batch in batches for row in batch.broken] == [1]
    assert [row["a"] for row in rows_of(source(tmp_path, "rows.jsonl"))] == ["1", "2"]


@pytest.mark.parametrize("text", ["", "\n\n", "{", "[1, 2]", "nothing"])
def test_what_holds_no_objects_is_refused(tmp_path: Path, text: str) -> None:
    """C11: An empty file, numbers, or other text."""
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"must hold JSON objects|must be one JSON array"):
        source(tmp_path, "rows.jsonl")


# --- damaged and dangerous files (C12) --------------------------------------------------------------------------------


class Harmful:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch unpickled",)


def write(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    table = pa.table({"a": range(1000), "b": [f"word {i}" for i in range(1000)]})
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif kind == "arrows":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    elif kind == "npz":
        np.savez(path, a=np.arange(1000), b=np.ones((1000, 3)))
    else:
        np.save(path, np.arange(1000))
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows", "npz", "npy"])
def test_a_cut_or_flipped_file_never_crashes(tmp_path: Path, kind: str) -> None:
    """C12: Cut anywhere or with bytes flipped anywhere, a binary file gives rows or a `DataError`, and nothing else."""
    path = write(tmp_path, kind)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    for number in range(60):
        broken = bytearray(data)
        if number % 2:
            del broken[int(random.integers(len(data))) :]
        else:
            for place in random.integers(0, len(data), 3):
                broken[place] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(broken))
        try:
            rows_of(source(tmp_path, path.name))
        except (DataError, ConfigError):
            continue


def test_pickles_in_numpy_files_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C12: An array of objects, and a pickle in disguise, run nothing."""
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=np.array([Harmful()], dtype=object))
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Harmful()))
    for name in ("x.npy", "x.npz", "bare.npy"):
        with pytest.raises(DataError, match="must be a whole NumPy file"):
            source(tmp_path, name)
    assert not (tmp_path / "unpickled").exists()


def test_a_zip_that_unfolds_too_far_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C12: What the archive announces is bounded, and an array cannot be larger than its member."""
    monkeypatch.setattr(npz_format, "MAX_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(1 << 20))
    assert (tmp_path / "bomb.npz").stat().st_size < 20_000
    with pytest.raises(DataError, match="must unpack to at most"):
        source(tmp_path, "bomb.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    with pytest.raises(DataError, match="shorter than its header says"):
        source(tmp_path, "liar.npz")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "lz4"])
def test_a_damaged_packed_file_is_told(tmp_path: Path, ending: str) -> None:
    """C12: The right magic and nothing behind it."""
    magic = {
        "gz": b"\x1f\x8b\x08",
        "bz2": b"BZh9",
        "xz": b"\xfd7zXZ\x00",
        "zst": b"\x28\xb5\x2f\xfd",
        "lz4": b"\x04\x22\x4d\x18",
    }
    (tmp_path / f"rows.csv.{ending}").write_bytes(magic[ending] + b"rubbish" * 20)
    with pytest.raises(DataError, match="must be a whole packed file"):
        rows_of(source(tmp_path, f"rows.csv.{ending}"))


# --- remote -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://x/y.csv", "ftp://x/y", "github://a", "s3://a::file://b", "file:///a/../b", "zip://x"]
)
def test_only_known_stores_are_opened(tmp_path: Path, url: str) -> None:
    """C14: Schemes come from a list; chains and parent folders are refused."""
    with pytest.raises(ConfigError, match="a remote path must begin with one of"):
        source(tmp_path, url)


def test_what_is_absent_remotely_is_told(tmp_path: Path) -> None:
    """No file below the URL is an error with the URL."""
    with pytest.raises(DataError, match=r"must (exist|name at least one file)"):
        source(tmp_path, f"file://{tmp_path}/nothing")


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


@pytest.mark.parametrize("name", ["../../../../escaped.csv", "a/../../../escaped.csv", "/escaped.csv", "a//b.csv"])
def test_an_objects_name_cannot_lead_out_of_the_cache(bucket: Bucket, tmp_path: Path, name: str) -> None:
    """C14: whoever may write to a bucket names objects as they like; nothing is written but below the download."""
    bucket.files.pipe(f"{bucket.url}/rows/a.csv", b"a\n1\n")
    bucket.files.pipe(f"{bucket.url}/rows/{name}", b"a\n2\n")
    config = FileSystemConfig(path=f"{bucket.url}/rows", storage_options=bucket.options)
    with pytest.raises(DataError, match="must have a name without"):
        FileSystemSource(config, cache=DiskTier(tmp_path / "cache"))
    assert not list(tmp_path.rglob("*.csv"))
