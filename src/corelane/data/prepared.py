"""Prepared data: the three parts as arrays ready to be gathered from, with the fitted pipeline and samples of raw rows.

On disk it is a bundle of kind `prepared`; nothing in it is code, and nothing is read before the bundle is verified.
`prepare.py` makes it; the trainer and the packager use it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from corelane.core.types import Array, IntArray
from corelane.data.appender import npy_digest
from corelane.data.batch import Fingerprint
from corelane.data.dataset_profile import DataProfile
from corelane.data.pipeline import Pipeline
from corelane.data.split import PARTS
from corelane.store.entry import Entry
from corelane.store.hold import Hold
from corelane.store.tiers.arrays import map_array

KIND = "prepared"
PIPELINE_FILE = "pipeline.json"
FACTS_FILE = "facts.json"
QUARANTINE_FILE = "quarantine.parquet"
PROFILE_FILE = "profile.json"
SAMPLES = ("calibration", "holdout", "gate")


@dataclass(frozen=True, slots=True)
class PreparedPart:
    """One part: network inputs by name, float32 [num_rows, ...]; the target [num_rows, ...] as `TargetEncoder.encode`
    gives it; and each row's index in its source, int64 [num_rows]. The arrays are read-only and may be memory-mapped.
    """

    inputs: Mapping[str, Array]
    target: Array
    positions: IntArray

    @property
    def num_rows(self) -> int:
        """How many rows the part has."""
        return len(self.target)

    @property
    def row_bytes(self) -> int:
        """What a row's inputs and target take."""
        return sum(math.prod(array.shape[1:]) * array.itemsize for array in (*self.inputs.values(), self.target))


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Everything training and packaging need of the data.

    `calibration`, `holdout` and `gate` hold up to 1,000 checked raw rows (feature columns, then the targets) of the
    training, the validation and the test part. `digest` names the prepared content: equal digests train the same bytes.
    `profile` describes the training rows.
    Rows that do not train are quarantined (`num_rejected`), at fault in a column that drops (`num_dropped`), or copies.
    `hold` keeps the entry in the cache for as long as this object lives.
    """

    pipeline: Pipeline
    train: PreparedPart
    validation: PreparedPart
    test: PreparedPart
    calibration: pa.Table
    holdout: pa.Table
    gate: pa.Table
    digest: str
    num_rejected: int
    fingerprint: Fingerprint
    profile: DataProfile
    num_dropped: int = 0
    num_deduplicated: int = 0
    hold: Hold | None = field(default=None, compare=False, repr=False)


def array_file(part: str, index: int | str) -> str:
    """The file of one array of a part: `target`, `positions`, or the input of that index."""
    return f"{part}/{index}.npy"


def content_digest(pipeline: Pipeline, file_digests: Mapping[str, str]) -> str:
    """SHA-256 over the fitted pipeline and the `.npy` files' digests by name: what training reads, and nothing else."""
    text = json.dumps([pipeline.digest, sorted(file_digests.items())], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_parts(pipeline: Pipeline, parts: Mapping[str, PreparedPart]) -> str:
    """`content_digest` of parts that lie in memory."""
    digests = {}
    for name, part in parts.items():
        arrays = {str(index): values for index, values in enumerate(part.inputs.values())}
        arrays |= {"target": part.target, "positions": part.positions}
        digests.update({array_file(name, index): npy_digest(values) for index, values in arrays.items()})
    return content_digest(pipeline, digests)


def read_prepared(entry: Entry) -> PreparedData:
    """The prepared data of a verified entry of the cache; its arrays are memory-mapped."""
    bundle = entry.bundle
    pipeline = Pipeline.from_json(json.loads((bundle.path / PIPELINE_FILE).read_bytes()))
    facts = json.loads((bundle.path / FACTS_FILE).read_bytes())
    train, validation, test = (_read_part(bundle.path, part, pipeline) for part in PARTS)
    calibration, holdout, gate = (read_table(bundle.path / f"{name}.arrow") for name in SAMPLES)
    digests = {name: entry.sha256 for name, entry in bundle.files.items() if name.endswith(".npy")}
    return PreparedData(
        pipeline=pipeline,
        train=train,
        validation=validation,
        test=test,
        calibration=calibration,
        holdout=holdout,
        gate=gate,
        digest=content_digest(pipeline, digests),
        **{name: facts[name] for name in ("num_rejected", "num_dropped", "num_deduplicated")},
        fingerprint=Fingerprint(**facts["fingerprint"]),
        profile=DataProfile.from_json(json.loads((bundle.path / PROFILE_FILE).read_bytes())),
        hold=entry.hold,
    )


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` as an Arrow file."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """Read what `write_table` wrote."""
    with pa.OSFile(str(path), "rb") as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


def _read_part(directory: Path, part: str, pipeline: Pipeline) -> PreparedPart:
    inputs = {name: map_array(directory / array_file(part, index)) for index, name in enumerate(pipeline.outputs)}
    target, positions = (map_array(directory / array_file(part, name)) for name in ("target", "positions"))
    return PreparedPart(inputs, target, positions)
