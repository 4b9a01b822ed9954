"""Rules of rows on the way to arrays: which rows train, which are set aside, and what is said when none are left."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from corelane.core.errors import DataError
from corelane.data.config import DataConfig, MemoryConfig, PipelineConfig
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

NUM_ROWS = 300
NUMERIC, CATEGORICAL = {"kind": "numeric"}, {"kind": "categorical"}


class _Preparer:
    """`prepare` into a folder of its own; keeps what was logged, counted and quarantined."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.quarantine = folder / "quarantine.parquet"
        self.log = io.StringIO()
        self.metrics = MetricsCollector()

    def __call__(self, source: DataSource | dict[str, Any], budget: int | None = None, **config: Any) -> PreparedData:
        data = InMemorySource(source) if isinstance(source, dict) else source
        settings = DataConfig(**{"source": MemoryConfig(), "target": "y", **config})
        with SystemLogger(stream=self.log, metrics=self.metrics) as logger, CPUDataProcessor(2) as processor:
            return prepare(
                data,
                settings,
                PipelineConfig(),
                seed=3,
                cache=DiskTier(self.folder / "cache"),
                quarantine=self.quarantine,
                logger=logger,
                processor=processor,
                memory_budget_bytes=budget,
            )

    def refused(self) -> list[dict[str, Any]]:
        return pq.read_table(self.quarantine).to_pylist()


@pytest.fixture
def prepared(tmp_path: Path) -> _Preparer:
    """A preparer with an empty cache."""
    return _Preparer(tmp_path)


def columns(num_rows: int = NUM_ROWS) -> dict[str, list[Any]]:
    generator = np.random.default_rng(1)
    return {
        "id": [f"r{index}" for index in range(num_rows)],
        "x": generator.normal(size=num_rows).round(6).tolist(),
        "c": [("red", "green", "blue")[index % 3] for index in range(num_rows)],
        "y": [("no", "yes")[index % 2] for index in range(num_rows)],
    }


def repeated(data: dict[str, list[Any]], places: dict[int, int]) -> dict[str, list[Any]]:
    """`data` with the row at each key a copy of the row at its value."""
    return {name: [values[places.get(index, index)] for index in range(len(values))] for name, values in data.items()}


def kept(data: PreparedData) -> list[int]:
    parts = (data.train, data.validation, data.test)
    return sorted(np.concatenate([part.positions for part in parts]).tolist())


def contents(data: PreparedData) -> list[bytes]:
    parts = (data.train, data.validation, data.test)
    return [array.tobytes() for part in parts for array in (*part.inputs.values(), part.target, part.positions)]


COPIES = {17: 3, 18: 3, 150: 149, 299: 0}
OTHERS = [index for index in range(NUM_ROWS) if index not in COPIES]


class TestCopies:
    def test_later_copies_are_left_out_and_counted(self, prepared: _Preparer) -> None:
        """The first of equal rows stays, at its place, in its part; the others are counted, told, and not refused."""
        data = prepared(repeated(columns(), COPIES), deduplicate=True, exclude=["id"])
        assert kept(data) == OTHERS
        assert (data.num_deduplicated, data.num_rejected, data.num_dropped) == (4, 0, 0)
        assert prepared.refused() == []
        assert '"event":"rows_deduplicated","num_rows":4' in prepared.log.getvalue().replace(", ", ",").replace(
            ": ", ":"
        )
        assert b'corelane_data_dropped_rows_total{reason="copy"} 4.0' in prepared.metrics.render()
        parts = part_of(3, np.array(OTHERS), DataConfig(source=MemoryConfig(), target="y").split)
        assert data.train.positions.tolist() == [row for row, part in zip(OTHERS, parts, strict=True) if part == 0]

    def test_statistics_do_not_see_them(self, prepared: _Preparer) -> None:
        """A thousand copies of one row move no mean: the fitted pipeline is that of the rows that stay."""
        plain = columns()
        many = {name: values + [values[5]] * 1000 for name, values in plain.items()}
        data = prepared(many, deduplicate=True, exclude=["id"])
        expected = prepared(plain, exclude=["id"])
        assert data.pipeline.digest == expected.pipeline.digest
        assert contents(data) == contents(expected)
        assert data.calibration.equals(expected.calibration)

    def test_named_columns_alone_are_compared(self, prepared: _Preparer) -> None:
        """Of rows that agree in a column, excluded or not, the first stays; samples do not hold excluded columns."""
        data = prepared({**columns(), "id": [str(index // 3) for index in range(NUM_ROWS)]}, deduplicate=["id"])
        assert kept(data) == list(range(0, NUM_ROWS, 3))
        excluded = {**columns(), "id": [str(index // 5) for index in range(NUM_ROWS)]}
        data = prepared(excluded, deduplicate=["id"], exclude=["id"])
        assert kept(data) == list(range(0, NUM_ROWS, 5))
        assert data.calibration.schema.names == ["x", "c", "y"]
        assert data.pipeline.schema.names == ("x", "c")

    def test_long_texts_are_compared_whole(self, prepared: _Preparer) -> None:
        """A document is no feature, but two articles with one text are copies; those that differ late are not."""
        article = ["x" * 5000 + str(index // 3) for index in range(NUM_ROWS)]
        data = prepared({**columns(), "id": article}, deduplicate=["id"], exclude=["id"])
        assert kept(data) == list(range(0, NUM_ROWS, 3))
        assert prepared.refused() == []

    def test_found_again(self, prepared: _Preparer) -> None:
        """A hit of the cache says the same; without the rule it is another entry."""
        data = repeated(columns(), COPIES)
        first, second = (prepared(data, deduplicate=True, exclude=["id"]) for _ in range(2))
        assert '"was_cached":true' in prepared.log.getvalue()
        assert second.num_deduplicated == 4
        assert first.digest == second.digest != prepared(data, exclude=["id"]).digest

    def test_the_same_rows_from_any_source(self, prepared: _Preparer, tmp_path: Path) -> None:
        """Text in a CSV and typed values in Parquet, in any batches, have the same copies and give the same bytes."""
        table = pa.table({**repeated(columns(), COPIES), "id": [index // 2 for index in range(NUM_ROWS)]})
        pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
        pq.write_table(table, tmp_path / "rows.parquet", row_group_size=41)
        declared = {"x": NUMERIC, "c": CATEGORICAL, "y": CATEGORICAL, "id": {"unique": True, "on_fault": "drop"}}
        config = {"columns": declared, "deduplicate": ["x", "c"], "exclude": ["id"], "task": "classification"}
        results = [
            prepared(source, **config)
            for source in (
                InMemorySource(table, batch_rows=7),
                FileSystemSource(_path("rows.csv"), tmp_path),
                FileSystemSource(_path("rows.parquet"), tmp_path),
            )
        ]
        assert len({data.digest for data in results}) == 1
        assert {data.num_deduplicated for data in results} == {4}
        assert results[0].num_dropped > 100

    def test_a_test_set_is_compared_with_itself(self, prepared: _Preparer) -> None:
        """Rows of one source are no copies of the other's: what is looked at once stays whole."""
        source, test = columns(), {name: values[:20] for name, values in columns().items()}
        with SystemLogger(stream=prepared.log) as logger:
            data = prepare(
                InMemorySource(source),
                DataConfig(source=MemoryConfig(), target="y", deduplicate=True),
                PipelineConfig(),
                seed=3,
                cache=DiskTier(prepared.folder / "cache"),
                quarantine=prepared.quarantine,
                logger=logger,
                test_source=InMemorySource(test),
            )
        assert data.test.num_rows == 20

    def test_too_many_rows_to_remember(self, prepared: _Preparer) -> None:
        """What is remembered of rows is part of the memory budget; beyond it preparing is refused in words."""
        with pytest.raises(DataError, match=r"rows to tell apart .* must fit into 4000 bytes at 40 bytes each"):
            prepared(columns(), budget=4000, deduplicate=True)


def _path(name: str) -> Any:
    return DataConfig(source=name, target="y").source  # type: ignore[arg-type]


class TestUnique:
    def test_a_second_row_with_a_value_is_refused(self, prepared: _Preparer) -> None:
        """The first row keeps the value; the later ones are in the quarantine with code and value; nulls differ."""
        data = columns()
        data["id"][40] = data["id"][250] = "r7"
        data["id"][41] = data["id"][42] = None
        result = prepared(data, columns={"id": {"unique": True}}, exclude=["id"])
        assert [(row["position"], row["column"], row["code"]) for row in prepared.refused()] == [
            (40, "id", "duplicate_value"),
            (250, "id", "duplicate_value"),
        ]
        assert prepared.refused()[0]["reason"] == "id must be another in each row, got 'r7' again"
        assert kept(result) == [index for index in range(NUM_ROWS) if index not in (40, 250)]
        assert result.num_rejected == 2

    def test_it_counts_towards_the_budget(self, prepared: _Preparer) -> None:
        """Repeated values are refused rows: too many of them are an error."""
        data = {**columns(), "id": ["same"] * NUM_ROWS}
        with pytest.raises(DataError, match="got 299 of 300; the first is row 2: id must be another in each row"):
            prepared(data, columns={"id": {"unique": True}}, exclude=["id"])

    def test_refused_rows_hold_no_value(self, prepared: _Preparer) -> None:
        """A row that the schema refuses does not use its value up."""
        data = {**columns(), "x": [str(value) for value in columns()["x"]]}
        data["x"][3], data["id"][9] = "bad", "r3"
        prepared(data, columns={"id": {"unique": True}, "x": NUMERIC}, exclude=["id"])
        assert [row["position"] for row in prepared.refused()] == [3]


class TestDropping:
    def test_rows_at_fault_are_left_out_and_only_counted(self, prepared: _Preparer) -> None:
        """They are in no quarantine, no share of refused rows and no part; the log and the metrics count them."""
        data = {**columns(), "x": [str(value) for value in columns()["x"]]}
        for index in range(0, NUM_ROWS, 4):
            data["x"][index] = "broken"
        result = prepared(data, columns={"x": {"kind": "numeric", "on_fault": "drop"}}, max_rejected=0.0)
        assert prepared.refused() == []
        assert (result.num_dropped, result.num_rejected) == (75, 0)
        assert kept(result) == [index for index in range(NUM_ROWS) if index % 4]
        assert b'corelane_data_dropped_rows_total{reason="not_a_number"} 75.0' in prepared.metrics.render()
        assert "rows_dropped" in prepared.log.getvalue()

    def test_the_first_column_at_fault_decides(self, prepared: _Preparer) -> None:
        """A row that is at fault in two columns goes where its first fault sends it."""
        data = {**columns(), "x": [str(value) for value in columns()["x"]], "z": ["1"] * NUM_ROWS}
        data["x"][5] = data["z"][5] = data["z"][6] = "broken"
        declared = {"x": {"kind": "numeric", "on_fault": "drop"}, "z": {"kind": "numeric"}}
        result = prepared(data, columns=declared)
        assert [row["position"] for row in prepared.refused()] == [6]
        assert result.num_dropped == 1

    def test_unseen_labels(self, prepared: _Preparer) -> None:
        """A label that training never saw is a fault of the target, and goes where the target's faults go."""
        data = columns()
        parts = part_of(3, np.arange(NUM_ROWS), DataConfig(source=MemoryConfig(), target="y").split)
        position = int(np.flatnonzero(parts == 2)[0])
        data["y"][position] = "strange"
        result = prepared(data, columns={"y": {"on_fault": "drop"}})
        assert prepared.refused() == []
        assert result.num_dropped == 1
        assert position not in kept(result)


class TestNothingToTrainOn:
    def test_no_row_is_left(self, prepared: _Preparer) -> None:
        """When every row is left out, preparing says that there is nothing to train on."""
        declared = {"x": {"kind": "numeric", "minimum": 1e9, "on_fault": "drop"}}
        with pytest.raises(DataError, match="at least one training row, got none"):
            prepared(columns(), columns=declared)

    def test_one_class_is_left(self, prepared: _Preparer) -> None:
        """A target with one label, from the start or after rows were left out, is an error."""
        with pytest.raises(DataError, match="at least two different labels, got only 'no'"):
            prepared({**columns(), "y": ["no"] * NUM_ROWS})
        declared = {"y": {"categories": ["no"], "on_fault": "drop"}}
        with pytest.raises(DataError, match="at least two different labels among the training rows, got only 'no'"):
            prepared(columns(), columns=declared)

    def test_a_column_without_values(self, prepared: _Preparer) -> None:
        """A column that is missing in all rows, or in all that are left, is an error that names it."""
        with pytest.raises(DataError, match="x must have at least one value, got none; leave it out"):
            prepared({**columns(), "x": [None] * NUM_ROWS})
        declared = {"x": {"kind": "numeric", "maximum": -1e9, "outside": "missing"}}
        with pytest.raises(DataError, match="x must have a value in at least one training row, got none"):
            prepared(columns(), columns=declared)


def test_cleaned_values_train(prepared: _Preparer) -> None:
    """Clipped, missing and trimmed values are in the arrays as the rules say, and refuse nothing."""
    data = {**columns(), "x": [str(value) for value in columns()["x"]], "c": [" red"] * 150 + ["green "] * 150}
    data["x"][4], data["x"][5] = "1e9", "broken"
    declared = {"x": {"kind": "numeric", "maximum": 2.0, "outside": "clip", "unreadable": "missing"}}
    result = prepared(data, columns=declared, max_rejected=0.0)
    raw = pa.RecordBatch.from_pydict(data)
    checked = result.pipeline.schema.check(raw, needs_target=True).rows
    assert checked.column("x").to_pylist()[4:6] == [2.0, None]
    assert set(checked.column("c").to_pylist()) == {"red", "green"}
    assert kept(result) == list(range(NUM_ROWS))
