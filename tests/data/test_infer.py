"""What inference makes of columns, and what it refuses to guess."""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.config import DataConfig, ImageConfig, MemoryConfig, PipelineConfig
from corelane.data.infer import infer_schema
from corelane.data.schema import Column, Schema
from tests.data.examples import batch, encoded, picture

LABELS = ["a", "b"] * 10
INTERVALS = pa.array([(1, 2, 3), (1, 2, 4)], pa.month_day_nano_interval())


def infer(data: dict[str, Any], image: ImageConfig | None = None, batch_rows: int = 7, **config: Any) -> Schema:
    raw = batch(data)
    settings = DataConfig(source=MemoryConfig(), **({"target": "y"} | config))
    batches = [raw.slice(start, batch_rows) for start in range(0, max(raw.num_rows, 1), batch_rows)]
    return infer_schema(batches, settings, PipelineConfig(image=image or ImageConfig()))


def feature(values: Any, image: ImageConfig | None = None, **declared: Any) -> Column:
    columns = {"columns": {"x": declared}} if declared else {}
    labels = [("a", "b")[index % 2] for index in range(len(values))]
    return infer({"x": values, "y": labels}, image, **columns).columns[0]


class TestKinds:
    @pytest.mark.parametrize(
        "values",
        [
            ["1", "2.5", None, "NA", " 3 "] * 4,
            ["1"] * 19 + ["abc"],
            [1, 2, None, 4],
            [0.5, float("nan"), None, 1.0],
            [decimal.Decimal("1.5"), decimal.Decimal("2.5")],
        ],
    )
    def test_numbers(self, values: list[Any]) -> None:
        """Numbers, and texts that are nearly all numbers, are numeric, and nullable with or without gaps."""
        assert feature(values) == Column("x", "numeric", nullable=True)

    @pytest.mark.parametrize(
        "values",
        [
            ["red", "blue"] * 3,
            ["1"] * 17 + ["a", "b", "c"],
            [True, False, None, True],
            ["true", "false"],
            pa.array(["u", "v", "u"]).dictionary_encode(),
            pa.array([1, 2], pa.time32("s")),
        ],
    )
    def test_categories(self, values: Any) -> None:
        """Texts, booleans, dictionaries and times are categorical; so is text with over a tenth of other values."""
        assert feature(values) == Column("x", "categorical", nullable=True)

    @pytest.mark.parametrize(
        "values",
        [
            pa.array([1, 2], pa.timestamp("s")),
            pa.array([1, None], pa.date32()),
            ["2024-02-29", "NA", None, "2024-02-29 12:30"],
            ["2024-02-29"] * 9 + ["yesterday"],
        ],
    )
    def test_dates(self, values: Any) -> None:
        """Timestamps, days, and texts that are nearly all dates."""
        assert feature(values) == Column("x", "date", nullable=True)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
    @pytest.mark.parametrize("shape", [(4,), (3, 3), (2, 3, 3)])
    def test_tensors(self, dtype: Any, shape: tuple[int, ...]) -> None:
        """Arrays of numbers are tensors of their shape and must be there."""
        assert feature(np.zeros((4, *shape), dtype=dtype)) == Column("x", "tensor", shape=shape, nullable=False)

    def test_lists_are_tensors(self) -> None:
        """Lists take the shape of the first row that has one."""
        assert feature([None, [[1, 2, 3], [4, 5, 6]], [[1]]]) == Column("x", "tensor", shape=(2, 3), nullable=False)

    @pytest.mark.parametrize(
        ("shape", "kind", "found"),
        [
            ((8, 6), "image", (8, 6, 1)),
            ((8, 6, 1), "image", (8, 6, 1)),
            ((8, 6, 3), "image", (8, 6, 3)),
            ((3, 8, 6), "tensor", (3, 8, 6)),
            ((8,), "tensor", (8,)),
        ],
    )
    def test_uint8_arrays(self, shape: tuple[int, ...], kind: Any, found: tuple[int, ...]) -> None:
        """uint8 arrays [h, w] and [h, w, 1 or 3] are images, others tensors."""
        assert feature(np.zeros((4, *shape), dtype=np.uint8)) == Column("x", kind, shape=found, nullable=False)

    def test_encoded_images(self) -> None:
        """Bytes are images of the size and the channels of the first that can be read."""
        files = [b"broken", encoded(picture(5, 4, 3)), encoded(picture(9, 9, 1))]
        assert feature(files) == Column("x", "image", shape=(5, 4, 3), nullable=False, encoded=True)

    def test_pipeline_image_size_and_channels_win(self) -> None:
        """With pipeline.image the network's size is that, and any size is accepted."""
        column = feature([encoded(picture(5, 4, 3))] * 2, ImageConfig(size=[8, 6], channels=1))
        assert column == Column("x", "image", shape=(8, 6, 1), nullable=False, encoded=True, resize=True)


class TestDeclared:
    def test_a_declared_kind_wins(self) -> None:
        """Numbers can be declared categories, and texts numbers."""
        assert feature(["1", "2"], kind="categorical").kind == "categorical"
        assert feature(["a", "b"], kind="numeric").kind == "numeric"

    def test_limits_imply_the_kind(self) -> None:
        """Categories make a text column, bounds a number column; categories are taken as the check will see them."""
        assert feature(["1", "2"], categories=[" 2", "1", "TRUE", "NA"]).categories == ("2", "1", "true", "NA")
        column = feature(["a", "b"], minimum=0, maximum=float("inf"), nullable=False)
        assert column == Column("x", "numeric", nullable=False, minimum=0.0)

    def test_rules_become_the_columns(self) -> None:
        """Whatever serving must honour of the rules stands in the column; a pattern or spaces make it one of texts."""
        rules = {"minimum": 0, "outside": "clip", "unreadable": "missing"}
        assert feature([1, 2], **rules) == Column("x", "numeric", minimum=0.0, outside="clip", unreadable="missing")
        assert feature(["1", "2"], pattern="[0-9]") == Column("x", "categorical", pattern="[0-9]")
        assert feature(["1", "2"], trim=False) == Column("x", "categorical", trim=False)
        assert feature(["a", "b"], categories=[" a", "b"], trim=False).categories == (" a", "b")
        assert feature(["a", "b"], on_fault="drop", unique=True) == Column("x", "categorical")

    @pytest.mark.parametrize(
        ("values", "rules"),
        [([1.5, 2.5, 3.5] * 10, {"minimum": 0, "outside": "missing"}), (["a", "b"] * 10, {"unreadable": "missing"})],
    )
    def test_a_target_cannot_be_missing(self, values: list[Any], rules: dict[str, Any]) -> None:
        """A rule that would make a label missing is refused; clipping a quantity is fine."""
        with pytest.raises(ConfigError, match="must refuse or clip what it cannot take, got missing"):
            infer({"x": list(range(len(values))), "y": values}, columns={"y": rules})
        clipped = infer(
            {"x": list(range(30)), "y": [1.5, 2.5, 3.5] * 10}, columns={"y": {"maximum": 3, "outside": "clip"}}
        )
        assert clipped.targets == (Column("y", "numeric", nullable=False, maximum=3.0, outside="clip"),)

    def test_a_broken_pattern_is_an_error_of_the_configuration(self) -> None:
        """RE2's own reason is given."""
        with pytest.raises(ConfigError, match=r"pattern of x must be a regular expression.*missing \)"):
            feature(["a", "b"], pattern="(a")

    def test_spaces_tell_labels_apart_where_they_are_kept(self) -> None:
        """Labels that differ by a space are one label, unless spaces belong to them."""
        labels = ["a", "a "] * 10
        with pytest.raises(DataError, match="at least two different labels"):
            infer({"x": list(range(20)), "y": labels})
        columns = {"y": {"trim": False}}
        assert infer({"x": list(range(20)), "y": labels}, columns=columns).targets == (
            Column("y", "categorical", nullable=False, trim=False),
        )
        dictionary = pa.array(labels).dictionary_encode()
        assert infer({"x": list(range(20)), "y": dictionary}, columns=columns).task == "classification"

    def test_a_declared_shape_wins(self) -> None:
        """The shape of lists may be declared where the first row cannot be trusted."""
        assert feature([[1], [1, 2], [3, 4]], shape=[2]).shape == (2,)

    def test_a_missing_tensor_cannot_be_imputed(self) -> None:
        """nullable: true is refused for tensors and images."""
        with pytest.raises(ConfigError, match="nullable must be false for tensors and images"):
            feature(np.zeros((2, 3)), nullable=True)

    @pytest.mark.parametrize(
        ("values", "declared", "option"),
        [
            ([1, 2], {"kind": "categorical", "minimum": 0}, "minimum"),
            (["a", "b"], {"kind": "categorical", "shape": [1]}, "shape"),
            (["a", "b"], {"categories": ["a"], "maximum": 3}, "maximum"),
            ([1, 2], {"kind": "numeric", "categories": ["1"]}, "categories"),
            ([1, 2], {"shape": [3]}, "shape"),
            (np.zeros((2, 3)), {"kind": "tensor", "minimum": 0}, "minimum"),
            ([encoded(picture(5, 4, 3))] * 2, {"kind": "image", "categories": ["a"]}, "categories"),
            ([1, 2], {"kind": "numeric", "pattern": "1"}, "pattern"),
            ([1, 2], {"kind": "numeric", "trim": True}, "trim"),
            (["2024-02-29"] * 2, {"kind": "date", "trim": False}, "trim"),
            (["a", "b"], {"kind": "categorical", "minimum": 1, "outside": "clip"}, "minimum"),
            (np.zeros((2, 3)), {"unreadable": "missing"}, "unreadable"),
            (np.zeros((2, 3)), {"unique": True}, "unique"),
        ],
    )
    def test_what_the_kind_does_not_read_is_refused(self, values: Any, declared: dict[str, Any], option: str) -> None:
        """A limit that would have no effect is an error, whether the kind was declared or found."""
        with pytest.raises(ConfigError, match=rf"data\.columns\.x\.{option} must be left out for a"):
            feature(values, **declared)

    @pytest.mark.parametrize(
        ("declared", "task", "words"),
        [
            ({"kind": "tensor"}, "auto", "kind must be 'categorical' for the target of a classification"),
            ({"kind": "categorical"}, "regression", "kind must be 'numeric' for the target of a regression"),
            ({"nullable": True}, "auto", "nullable must be false for the target"),
            ({"minimum": 0.5}, "classification", "minimum must be left out for a categorical column"),
            ({"categories": ["1"]}, "regression", "categories must be left out for a numeric column"),
        ],
    )
    def test_what_a_target_does_not_read_is_refused(self, declared: dict[str, Any], task: str, words: str) -> None:
        """What is declared of the target holds or is an error."""
        with pytest.raises(ConfigError, match=words):
            infer({"x": [1, 2], "y": [1, 2]}, columns={"y": declared}, task=task)

    def test_repeated_categories(self) -> None:
        """Categories that are the same text are a mistake."""
        with pytest.raises(ConfigError, match="categories must be distinct"):
            feature(["a", "b"], categories=["a", " a"])

    def test_exclude(self) -> None:
        """Excluded columns are not looked at, whatever they hold."""
        schema = infer({"x": LABELS, "id": [None] * 20, "y": LABELS}, exclude=["id"])
        assert schema.names == ("x",)


class TestTask:
    @pytest.mark.parametrize(
        ("target", "task"),
        [
            (LABELS, "classification"),
            ([True, False] * 10, "classification"),
            ([0, 1, 2, 3] * 5, "classification"),
            (["0", "1"] * 10, "classification"),
            ([0.0, 1.0] * 10, "classification"),
            (list(range(20)), "regression"),
            ([0.5, 1.0] * 10, "regression"),
            ([f"{index}.5" for index in range(20)], "regression"),
        ],
    )
    def test_is_decided_by_the_target(self, target: list[Any], task: str) -> None:
        """Texts, booleans and few whole numbers are labels; many or fractional numbers are a quantity."""
        schema = infer({"x": list(range(20)), "y": target})
        assert schema.task == task
        kind = "numeric" if task == "regression" else "categorical"
        assert schema.targets == (Column("y", kind, nullable=False),)

    def test_can_be_declared(self) -> None:
        """data.task, and a declared kind of the target, win."""
        columns = {"x": list(range(20)), "y": [0, 1] * 10}
        assert infer(columns, task="regression").task == "regression"
        assert infer(columns, columns={"y": {"kind": "numeric"}}).task == "regression"
        assert infer(columns | {"y": list(range(20))}, task="classification").task == "classification"

    def test_several_columns_are_labels(self) -> None:
        """Columns of 0 and 1 by any name of theirs; what else one holds is refused row by row, with the reason."""
        columns = {"x": list(range(20)), "wet": [0, 1] * 10, "cold": ["true", "FALSE"] * 10}
        schema = infer(columns, target=["wet", "cold"])
        assert (schema.task, schema.names, schema.target_names) == ("multi_label", ("x",), ("wet", "cold"))
        rows = pa.RecordBatch.from_pydict({"x": [1, 2, 3], "wet": [1, 2, 0], "cold": ["true", "false", None]})
        checked = schema.check(rows, needs_target=True)
        assert checked.rows.column("wet").to_pylist() == ["1"]
        assert [(reject.index, reject.column, reject.code) for reject in checked.rejects] == [
            (1, "wet", "unknown_category"),
            (2, "cold", "missing"),
        ]

    def test_labels_in_one_column(self) -> None:
        """A row without a value has no label, so the column may miss one."""
        schema = infer({"x": list(range(20)), "y": ["a;b", None] * 10}, separator=";")
        assert (schema.task, schema.separator, schema.targets[0].nullable) == ("multi_label", ";", True)

    @pytest.mark.parametrize("given", [True, "true", "True"])
    def test_the_positive_label_is_text(self, given: Any) -> None:
        """As the cast will make it of the column's cells."""
        assert infer({"x": list(range(20)), "y": [True, False] * 10}, positive=given).positive == "true"

    def test_what_labels_cannot_have_is_refused(self) -> None:
        """A positive value, and categories of a column that is one label."""
        with pytest.raises(ConfigError, match="positive must be left out for a regression"):
            infer({"x": list(range(20)), "y": [0.5, 1.5] * 10}, positive="1")
        with pytest.raises(ConfigError, match="must declare no categories"):
            infer({"x": list(range(20)), "y": [0, 1] * 10}, target=["y"], columns={"y": {"categories": ["0", "1"]}})

    def test_a_declared_label_may_be_written_like_a_missing_value(self) -> None:
        """NA, for Namibia, is a label where it is declared, also if it is the only text of a feature."""
        texts = ["NA", "EU"] * 10
        schema = infer({"x": ["NA"] * 20, "y": texts}, columns={name: {"categories": ["NA", "EU"]} for name in "xy"})
        assert schema.targets == (Column("y", "categorical", nullable=False, categories=("NA", "EU")),)
        assert schema.columns[0].categories == ("NA", "EU")


@pytest.mark.parametrize(
    ("columns", "config", "message"),
    [
        ({"x": [], "y": []}, {}, "the data must have at least one row, got none"),
        ({"x": [1, 2], "y": ["a", "b"]}, {"target": "yy"}, "data.target must name columns of the data, got 'yy'; did"),
        ({"x": [1, 2], "y": ["a", "b"]}, {"columns": {"z": {}}}, "data.columns must name columns of the data, got 'z'"),
        ({"x": [1, 2], "y": ["a", "b"]}, {"exclude": ["z"]}, "data.exclude must name columns of the data, got 'z'"),
        ({"x": ["", "NA"], "y": ["a", "b"]}, {}, "x must have at least one value, got none; leave it out"),
        ({"x": [None, None], "y": ["a", "b"]}, {}, "x must have at least one value, got none; leave it out"),
        ({"x": [1, 2], "y": ["a", "a"]}, {}, "the target y must have at least two different labels, got only 'a'"),
        ({"x": [1, 2], "y": [None, ""]}, {}, "the target y must hold labels or numbers, got none"),
        (
            {"x": [1, 2], "y": ["a", "1"]},
            {"task": "regression"},
            "the target y must hold numbers for regression, got 1",
        ),
        ({"x": [1, 2], "y": np.zeros((2, 3))}, {}, "the target y must hold labels or numbers, got"),
        ({"y": ["a", "b"]}, {}, "the data must have a column besides the target 'y'"),
        ({"x": [b"a", b"b"], "y": ["a", "b"]}, {}, "x must hold images, got none among its first values"),
        ({"x": [{"a": 1}, {"a": 2}], "y": ["a", "b"]}, {}, "x must hold numbers, texts, times, lists or images"),
        ({"x": INTERVALS, "y": ["a", "b"]}, {}, "x must hold numbers, texts, times, lists or images"),
        ({"x": [1, 2], "y": INTERVALS}, {}, "the target y must hold labels or numbers, got month_day_nano_interval"),
        ({"x": [1, 2], "y": ["a", "b"]}, {"columns": {"x": {"kind": "image"}}}, "x must hold images or uint8 arrays"),
    ],
)
def test_refuses_data_it_cannot_use(columns: dict[str, Any], config: dict[str, Any], message: str) -> None:
    """Each way in which data as a whole are unusable has one clear line."""
    with pytest.raises(DataError) as caught:
        infer(columns, **config)
    assert caught.value.message.startswith(message)


def test_whole_columns_decide_not_the_first_batch() -> None:
    """A column whose first batch is all numbers and whose rest is text is categorical, whatever the batch size."""
    values = ["1"] * 10 + ["a"] * 10
    for batch_rows in (1, 10, 20):
        assert infer({"x": values, "y": LABELS}, batch_rows=batch_rows).columns[0].kind == "categorical"
