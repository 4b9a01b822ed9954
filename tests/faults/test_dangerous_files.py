"""C12: files made to do harm. Nothing in them is run or unfolds without bounds; a bad picture costs its row."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from corelane.app import train
from corelane.core.errors import DataError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource


class Harmful:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch unpickled",)


def rows_of(path: Path) -> list[dict[str, Any]]:
    source = FileSystemSource(FileSystemConfig(path=str(path)))
    return [row for batch in source.batches() for row in batch.rows.to_pylist()]


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
@pytest.mark.parametrize("name", ["arrow.py_extension_type", "arrow.fixed_shape_tensor", "nobody.knows"])
def test_types_that_a_file_names_are_not_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """An extension type whose description is a pickle, rubbish, or unknown: its storage is read or it is refused."""
    monkeypatch.chdir(tmp_path)
    described = {b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": pickle.dumps(Harmful())}
    table = pa.table([[1, 2]], schema=pa.schema([pa.field("a", pa.int64(), metadata=described)]))
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    try:
        assert rows_of(path) == [{"a": 1}, {"a": 2}]
    except DataError:
        assert name == "arrow.fixed_shape_tensor"  # known to Arrow itself, and not described so
    assert not (tmp_path / "unpickled").exists()


# --- pictures ---------------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A PNG file that says it has so many pixels, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """64 million pixels in a few kilobytes, all of them there."""
    file = io.BytesIO()
    Image.new("1", (8000, 8000)).save(file, "PNG")
    return file.getvalue()


def test_bad_pictures_cost_their_rows(tmp_path: Path) -> None:
    """A bomb, a liar, a cut file, text, nothing: each is quarantined with its reason, and the others train."""
    generator = np.random.default_rng(0)
    for index in range(60):
        folder = tmp_path / "pictures" / ("dark" if index % 2 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 100, (8, 8), dtype=np.uint8) + (0 if index % 2 else 150)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
    whole = (tmp_path / "pictures/dark/01.png").read_bytes()
    bad = {
        "bomb": bomb(),
        "liar": png(60_000, 60_000),
        "cut": whole[: len(whole) // 2],
        "text": b"no picture at all",
        "empty": b"",
        "other": whole.replace(b"IHDR", b"IHDX"),
    }
    for name, data in bad.items():
        (tmp_path / f"pictures/dark/{name}.png").write_bytes(data)
    config = {
        "name": "bad",
        "data": {"source": str(tmp_path / "pictures"), "target": "label", "max_rejected": 0.2},
        "machine": {"cache": str(tmp_path / "cache")},
        "model": {"net": "mlp", "hidden": [8]},
        "train": {"epochs": 1},
    }
    run = train(config, runs=tmp_path / "runs", quiet=True)
    quarantine = pq.read_table(run.directory / "quarantine.parquet").to_pylist()
    assert sorted(row["position"] for row in quarantine) == [*range(30, 36)]
    codes = {row["code"] for row in quarantine}
    assert codes == {"not_an_image", "image_too_large"}
    assert all(row["reason"] for row in quarantine)


def test_a_parquet_file_cannot_ask_for_memory_it_has_no_data_for(tmp_path: Path) -> None:
    """Counts and sizes in a footer that were raised to gigabytes are an error, in a process that may not have them."""
    pq.write_table(pa.table({"a": range(1000), "b": ["word"] * 1000}), tmp_path / "rows.parquet", compression="none")
    data = (tmp_path / "rows.parquet").read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    code = (
        "import resource, sys\n"
        "from corelane.core.errors import DataError\n"
        "from corelane.data.config import FileSystemConfig\n"
        "from corelane.data.sources.filesystem.source import FileSystemSource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        print(sum(b.rows.num_rows for b in FileSystemSource(FileSystemConfig(path=path)).batches()))\n"
        "    except DataError as error:\n"
        "        print('refused')\n"
    )
    random = np.random.default_rng(0)
    paths = []
    for number in range(40):
        broken = bytearray(data)
        place = len(data) - int(random.integers(9, footer))
        broken[place : place + 4] = b"\xff\xff\xff\x7f"
        paths.append(tmp_path / f"{number}.parquet")
        paths[-1].write_bytes(bytes(broken))
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 40
    assert "refused" in done.stdout
