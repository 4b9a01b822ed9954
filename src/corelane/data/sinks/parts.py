"""Results kept while they are made, so that a long scoring goes on where it was stopped.

They lie beside the output, in a folder of Arrow files of `PART_ROWS` rows, each written whole and flushed before the
next is begun; `made_of.json` says of which package and which data they are. A process that is killed costs the rows of
the part it was at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa

from corelane.core.errors import ConfigError, DataError
from corelane.core.types import JsonObject
from corelane.store.durable import discard, remove_temporaries, temporary_file, write_atomic

PART_ROWS = 1 << 19
"""Half a million rows: seconds of work to lose, and few enough files for a billion."""

_MADE_OF = "made_of.json"


class KeptRows:
    """Owns `folder`, which it makes where there is none. `made_of` tells what the rows come from: package, data, plan.

    Raises `ConfigError` when rows of something else are kept there, `DataError` when a part is missing or damaged.
    """

    def __init__(self, folder: Path, made_of: JsonObject) -> None:
        self._folder = folder
        self._check(orjson.dumps(made_of, option=orjson.OPT_SORT_KEYS))
        remove_temporaries(folder)
        self._parts = sorted(folder.glob("*.arrow"))
        self.num_rows = self._count()

    def keep(self, batches: Iterable[pa.RecordBatch]) -> Iterator[int]:
        """Write the next rows; yields how many there are now after each batch, not all of them flushed yet."""
        held: list[pa.RecordBatch] = []
        num_held = 0
        for rows in batches:
            held.append(rows)
            num_held += rows.num_rows
            yield self.num_rows + num_held
            if num_held >= PART_ROWS:
                self._write(held, num_held)
                held, num_held = [], 0
        if held:
            self._write(held, num_held)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in order."""
        for part in self._parts:
            with pa.memory_map(str(part)) as file, pa.ipc.open_file(file) as reader:
                yield from (reader.get_batch(index) for index in range(reader.num_record_batches))

    def discard(self) -> None:
        """Remove the folder: the output is there."""
        discard(self._folder)

    def _check(self, made_of: bytes) -> None:
        record = self._folder / _MADE_OF
        if not record.exists():
            if self._folder.exists() and any(self._folder.iterdir()):
                raise ConfigError(f"{self._folder} must be ours to keep answers in, got other files; move them away")
            write_atomic(record, made_of)
        elif record.read_bytes() != made_of:
            raise ConfigError(
                "answers must go on with the package, data and plan they were begun with, "
                f"got others than {record} says; remove that folder to begin anew"
            )

    def _count(self) -> int:
        num_rows = 0
        for part in self._parts:
            if part.name != _part_name(num_rows):
                raise DataError(f"a part must begin at row {num_rows}, got {part}; remove the folder to begin anew")
            try:
                with pa.memory_map(str(part)) as file, pa.ipc.open_file(file) as reader:
                    num_rows += sum(reader.get_batch(index).num_rows for index in range(reader.num_record_batches))
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(f"{part} must be a part as it was written, got: {error}; begin anew") from error
        return num_rows

    def _write(self, batches: list[pa.RecordBatch], num_rows: int) -> None:
        part = self._folder / _part_name(self.num_rows)
        with temporary_file(part) as temporary, pa.ipc.new_file(str(temporary), batches[0].schema) as writer:
            for rows in batches:
                writer.write_batch(rows)
        self._parts.append(part)
        self.num_rows += num_rows


def _part_name(first_row: int) -> str:
    return f"{first_row:015d}.arrow"
