"""The two ways through a pipeline give the same float32 bits on the same rows, for every stage: the columns way of
training (Arrow, `Schema.check`, `Pipeline.transform`) and the compiled way of serving (`CompiledPipeline`). Where the
check refuses a row, serving answers with the check's own reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corelane.core.errors import RequestError
from corelane.core.types import Array
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column
from tests.data.examples import batch, encoded, fitted, picture

FEW = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

SCALINGS = ["standardise", "min_max", "robust", "quantile", "quantile_normal", "log", "normalise", "none"]
IMPUTATIONS = ["median", "mean", "mode", "constant"]
FEWER = settings(FEW, max_examples=20)

numbers = st.one_of(
    st.floats(width=64),
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324]),
)
texts = st.one_of(
    st.sampled_from(["red", "green", " red ", "TRUE", "False", "NA", "", "null", "3", "3.0", "unseen", "\u00e9"]),
    st.text(max_size=8),
    st.none(),
)


def assert_equal_ways(pipeline: Pipeline, raw: pa.RecordBatch, values: Mapping[str, Any]) -> None:
    """Check and transform `raw` the columns way, `values` the compiled way, and compare the bits or the refusal."""
    checked = pipeline.schema.check(raw, needs_target=False)
    compiled = pipeline.compile()
    if checked.rejects:
        reject = checked.rejects[0]
        with pytest.raises(RequestError, match=re.escape(f"row {reject.index}: {reject.column} ")):
            compiled.transform(values)
        return
    assert_same_bits(pipeline.transform(checked.rows), compiled.transform(values))


def assert_same_bits(expected: Mapping[str, Array], got: Mapping[str, Array]) -> None:
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype == np.float32
        assert got[name].shape == array.shape
        assert np.isfinite(array).all()
        assert got[name].tobytes() == array.tobytes(), name


def numeric_pipeline(scaling: str, imputation: str, *, indicator: bool = False, **limits: Any) -> Pipeline:
    columns = [Column("a", "numeric", **limits), Column("b", "numeric"), Column("constant", "numeric")]
    rows = {"a": [1.0, 2.5, None, -4.0], "b": [1e-3, 1e12, 7.0, None], "constant": [0.1, 0.1, 0.1, 0.1]}
    fill = {"fill_value": 1.5} if imputation == "constant" else {}
    return fitted(columns, rows, numeric=scaling, impute=imputation, missing_indicator=indicator, **fill)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("imputation", IMPUTATIONS)
@given(rows=st.lists(st.tuples(numbers, numbers, numbers), max_size=6))
@example(rows=[])
@example(rows=[(None, float("nan"), 0.1)])
@example(rows=[(1.0, float("inf"), 0.1)])
@FEWER
def test_numbers(scaling: str, imputation: str, rows: list[tuple[Any, ...]]) -> None:
    """Any float64 or integer, missing or not, by column: equal bits, and an infinity is refused by both."""
    pipeline = numeric_pipeline(scaling, imputation)
    values = {name: [row[index] for row in rows] for index, name in enumerate(pipeline.schema.names)}
    raw = batch({name: pa.array([_as_float(cell) for cell in cells], pa.float64()) for name, cells in values.items()})
    assert_equal_ways(pipeline, raw, values)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("indicator", [True, False])
@given(matrix=hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(3)), elements=st.floats(width=64)))
@FEWER
def test_matrix_of_numbers(scaling: str, indicator: bool, matrix: Array) -> None:
    """`transform_matrix` takes all columns at once, NaN for missing, with the same bits and the same refusals."""
    pipeline = numeric_pipeline(scaling, "median", indicator=indicator)
    raw = batch({name: matrix[:, index] for index, name in enumerate(pipeline.schema.names)})
    checked = pipeline.schema.check(raw, needs_target=False)
    if checked.rejects:
        with pytest.raises(RequestError, match="must be a finite number"):
            pipeline.compile().transform_matrix(matrix)
        return
    assert_same_bits(pipeline.transform(checked.rows), pipeline.compile().transform_matrix(matrix))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int8", "uint64", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_matrix_of_any_number_type(dtype: str, order: Any) -> None:
    """The dtype and memory layout of a matrix do not change the bits its values give."""
    pipeline = numeric_pipeline("standardise", "median")
    matrix = np.array(np.random.default_rng(1).integers(0, 2, (4, 3)), dtype=dtype, order=order)
    wide = matrix.astype(np.float64)
    assert_same_bits(pipeline.compile().transform_matrix(wide), pipeline.compile().transform_matrix(matrix))
    raw = batch({name: wide[:, index] for index, name in enumerate(pipeline.schema.names)})
    assert_same_bits(pipeline.transform(raw), pipeline.compile().transform_matrix(matrix))


@pytest.mark.parametrize("num_rows", [1, 2, 9, 400])
def test_many_numbers(num_rows: int) -> None:
    """Every scaling side by side, in batches that vector instructions take and in single rows: equal bits."""
    generator = np.random.default_rng(0)
    names = [f"{scaling}_{index}" for scaling in SCALINGS for index in range(5)]
    train = {name: generator.lognormal(0.0, 4.0, 200) * generator.choice([-1.0, 1.0], 200) for name in names}
    own = {name: {"numeric": name.rpartition("_")[0]} for name in names}
    pipeline = fitted([Column(name, "numeric") for name in names], train, columns=own, missing_indicator=True)
    values = generator.lognormal(0.0, 4.0, (num_rows, len(names))) * generator.choice([-1.0, 1.0], (num_rows, 1))
    values[generator.random(values.shape) < 0.1] = np.nan
    expected = pipeline.transform(batch({name: values[:, index] for index, name in enumerate(names)}))
    compiled = pipeline.compile()
    assert_same_bits(expected, compiled.transform_matrix(values))
    assert_same_bits(expected, compiled.transform({name: values[:, index] for index, name in enumerate(names)}))
    rows = [compiled.transform_matrix(row[None])["features"] for row in values]
    assert_same_bits(expected, {"features": np.concatenate(rows)})


@pytest.mark.parametrize("indicator", [True, False])
@given(cells=st.lists(numbers, max_size=6))
@FEW
def test_bounded_and_required_numbers(indicator: bool, cells: list[Any]) -> None:
    """Declared bounds and a column that must have a value refuse the same cells in both ways."""
    limits = {"nullable": False, "minimum": -4.0, "maximum": 100.0}
    pipeline = numeric_pipeline("standardise", "median", indicator=indicator, **limits)
    assert_rows = {"a": cells, "b": [0.5] * len(cells), "constant": [None] * len(cells)}
    raw = batch(
        {name: pa.array([_as_float(cell) for cell in column], pa.float64()) for name, column in assert_rows.items()}
    )
    assert_equal_ways(pipeline, raw, assert_rows)


ODD_NUMBERS = st.sampled_from(["+1.5", ".5", "5.", "1e400", "\u0131nf"])


@given(cells=st.lists(st.one_of(st.floats(width=64).map(repr), texts, ODD_NUMBERS)))
@example(cells=["\u0131nf"])
@FEW
def test_numbers_as_text(cells: list[str | None]) -> None:
    """Text cells, as CSV has them, are parsed alike in both ways: numbers, missing values and refusals."""
    pipeline = numeric_pipeline("standardise", "mean")
    values = {"a": cells, "b": [0.5] * len(cells), "constant": [0.1] * len(cells)}
    raw = batch({**values, "a": pa.array(cells, pa.string())})
    assert_equal_ways(pipeline, raw, values)


@pytest.mark.parametrize("encoding", ["one_hot", "ordinal", "hashing"])
@pytest.mark.parametrize("declared", [None, ("green", "red", "NA")])
@pytest.mark.parametrize("nullable", [True, False])
@given(cells=st.lists(texts, max_size=6))
@example(cells=[])
@FEW
def test_categories(encoding: str, declared: tuple[str, ...] | None, nullable: bool, cells: list[str | None]) -> None:
    """Known, unseen, missing and oddly written texts: equal bits, or the same refusal where the schema is strict."""
    column = Column("colour", "categorical", nullable=nullable, categories=declared)
    pipeline = fitted([column], {"colour": ["red", "green", "red", "green"]}, categorical=encoding)
    assert_equal_ways(pipeline, batch({"colour": pa.array(cells, pa.string())}), {"colour": cells})


BEYOND = st.one_of(numbers, st.sampled_from([-4.0, 100.0, 100, -5, 101, float("inf"), float("-inf")]))


@pytest.mark.parametrize("outside", ["reject", "clip", "missing"])
@pytest.mark.parametrize("unreadable", ["reject", "missing"])
@pytest.mark.parametrize("limits", [{"minimum": -4.0}, {"maximum": 100.0}, {"minimum": 0.0, "maximum": 100.0}])
@pytest.mark.parametrize("indicator", [True, False])
@given(cells=st.lists(BEYOND, max_size=6))
@example(cells=[-0.0, 0.0, None, 1e308, float("nan")])
@FEWER
def test_numbers_beyond_their_bounds(
    outside: str, unreadable: str, limits: dict[str, float], indicator: bool, cells: list[Any]
) -> None:
    """A number beyond is refused, clipped or missing, an infinity refused or missing: alike by name and as a matrix."""
    rules = {"outside": outside, "unreadable": unreadable, **limits}
    pipeline = numeric_pipeline("standardise", "median", indicator=indicator, **rules)
    values = {"a": cells, "b": [0.5] * len(cells), "constant": [None] * len(cells)}
    raw = batch({name: pa.array([_as_float(cell) for cell in column], pa.float64()) for name, column in values.items()})
    assert_equal_ways(pipeline, raw, values)
    checked = pipeline.schema.check(raw, needs_target=False)
    if cells and not checked.rejects:
        matrix = np.array([[np.nan if cell is None else float(cell) for cell in row] for row in values.values()]).T
        assert_same_bits(pipeline.transform(checked.rows), pipeline.compile().transform_matrix(matrix))


@given(
    cells=st.lists(st.one_of(st.floats(width=64).map(repr), texts, st.sampled_from(["1e400", "inf", "12 kg", "1,5"])))
)
@FEW
def test_unreadable_numbers_as_text(cells: list[str | None]) -> None:
    """Text that is no number is a missing one where the column says so, in both ways, and never clipped."""
    rules = {"unreadable": "missing", "minimum": -4.0, "maximum": 100.0, "outside": "clip"}
    pipeline = numeric_pipeline("standardise", "mean", **rules)
    values = {"a": cells, "b": [0.5] * len(cells), "constant": [0.1] * len(cells)}
    assert_equal_ways(pipeline, batch({**values, "a": pa.array(cells, pa.string())}), values)


@pytest.mark.parametrize("encoding", ["one_hot", "ordinal", "hashing"])
@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("unreadable", ["reject", "missing"])
@pytest.mark.parametrize(
    "limits", [{}, {"pattern": "red|[a-z ]{3,5}|3.*"}, {"categories": ("red", "green", "NA")}], ids=str
)
@given(cells=st.lists(texts, max_size=6))
@example(cells=["  red", "red\n", "", " ", "x" * 1001])
@FEWER
def test_cleaned_categories(
    encoding: str, trim: bool, unreadable: str, limits: dict[str, Any], cells: list[str | None]
) -> None:
    """Spaces kept or not, patterns, and what is not taken refused or missing: the same bits or the same refusal."""
    column = Column("colour", "categorical", trim=trim, unreadable=unreadable, **limits)  # type: ignore[arg-type]
    pipeline = fitted([column], {"colour": ["red", "green", "red", "green"]}, categorical=encoding)
    assert_equal_ways(pipeline, batch({"colour": pa.array(cells, pa.string())}), {"colour": cells})
    assert_equal_ways(pipeline, batch({"colour": pa.array(cells).dictionary_encode()}), {"colour": cells})


@pytest.mark.parametrize(
    ("kind", "value"),
    [("numeric", [1]), ("numeric", {}), ("categorical", ["a"]), ("categorical", b"a"), ("date", 5), ("date", [1])],
)
def test_values_of_another_sort_are_missing_where_the_column_says_so(kind: Any, value: Any) -> None:
    """What a request can hold and no column could, a list among texts say, ends as a missing value, too."""
    train = {"numeric": [1.0, 2.0], "categorical": ["a", "b"], "date": ["2024-01-01", "2024-01-02"]}[kind]
    pipeline = fitted([Column("x", kind, unreadable="missing")], {"x": train})
    compiled = pipeline.compile()
    assert_same_bits(compiled.transform({"x": [None]}), compiled.transform({"x": [value]}))


@pytest.mark.parametrize("encoding", ["one_hot", "ordinal", "hashing"])
@pytest.mark.parametrize("own", [{"impute": "mode"}, {"impute": "constant", "fill_value": "none given"}])
@given(cells=st.lists(texts, max_size=6))
@FEWER
def test_imputed_categories(encoding: str, own: dict[str, str], cells: list[str | None]) -> None:
    """A missing category that stands for another one does so in both ways, also dictionary-encoded."""
    train = {"colour": ["red", "green", "red", None]}
    pipeline = fitted([Column("colour", "categorical")], train, categorical=encoding, columns={"colour": own})
    raw = batch({"colour": pa.array(cells, pa.string())})
    assert_equal_ways(pipeline, raw, {"colour": cells})
    checked = pipeline.schema.check(raw, needs_target=False).rows
    encoded_rows = batch({"colour": checked.column("colour").dictionary_encode()})
    assert_same_bits(pipeline.transform(checked), pipeline.transform(encoded_rows))


@pytest.mark.parametrize("cells", [[True, False, None], [3, 7, None], [3.0, 2.5, float("nan")]])
def test_categories_that_are_no_text(cells: list[Any]) -> None:
    """Booleans and numbers as categories mean the same text in a typed column and in a JSON value."""
    pipeline = fitted([Column("c", "categorical")], {"c": ["true", "3", "2.5", "false"]})
    assert_equal_ways(pipeline, batch({"c": pa.array(cells)}), {"c": cells})
    assert_equal_ways(pipeline, batch({"c": pa.array(cells)}), {"c": np.array(cells)})


@given(cells=st.lists(st.one_of(st.decimals(-(10**9), 10**9, places=3), st.none()), max_size=6))
@example(cells=[Decimal("1234.56"), Decimal("2254.258"), Decimal("1.000"), None])
@FEW
def test_decimals(cells: list[Decimal | None]) -> None:
    """Decimal numbers of a typed column are those of CSV, JSON and Python, as numbers and as categories."""
    numeric = numeric_pipeline("standardise", "mean", maximum=2254.258)
    beside = {"b": [0.5] * len(cells), "constant": [0.1] * len(cells)}
    raw = batch({"a": pa.array(cells, pa.decimal128(38, 3)), **beside})
    for values in (cells, [_as_float(cell) for cell in cells]):
        assert_equal_ways(numeric, raw, {"a": values, **beside})
    as_texts = batch({"a": pa.array([None if cell is None else str(cell) for cell in cells], pa.string()), **beside})
    assert_equal_ways(numeric, as_texts, {"a": cells, **beside})
    categories = fitted([Column("c", "categorical")], {"c": [1.0, 1234.56, 2254.258, 7.0]})
    for values in (cells, [_as_float(cell) for cell in cells]):
        assert_equal_ways(categories, batch({"c": pa.array(cells, pa.decimal128(38, 3))}), {"c": values})


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("shape", [(3,), (2, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@given(data=st.data())
@settings(FEW, max_examples=20)
def test_tensors(scaling: str, shape: tuple[int, ...], dtype: Any, data: st.DataObject) -> None:
    """Vectors and higher tensors of any number type, NaN and infinities among them, as arrays and as nested lists."""
    train = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    pipeline = fitted([Column("x", "tensor", shape=shape, nullable=False)], {"x": train}, numeric=scaling)
    array = data.draw(hnp.arrays(dtype, (data.draw(st.integers(1, 4)), *shape)))
    assert_equal_ways(pipeline, batch({"x": array}), {"x": array})
    assert_equal_ways(pipeline, batch({"x": array}), {"x": array.tolist()})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_rows", [0, 1, 5])
def test_pixels(channels: int, num_rows: int) -> None:
    """uint8 pixels of the right size, as an array and (where there are rows) as nested lists."""
    train = np.stack([picture(5, 4, channels, seed) for seed in range(6)])
    pipeline = fitted([Column("image", "image", shape=(5, 4, channels), nullable=False)], {"image": train})
    some = train[:num_rows]
    raw = batch({"image": some})
    assert_equal_ways(pipeline, raw, {"image": some})
    assert_equal_ways(pipeline, raw, {"image": some.tolist()})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", [True, False])
def test_encoded_images(channels: int, resize: bool) -> None:
    """Image files are decoded, converted and (where asked for) resized by the same code in both ways."""
    column = Column("image", "image", shape=(6, 5, channels), nullable=False, encoded=True, resize=resize)
    pipeline = fitted([column], {"image": [encoded(picture(6, 5, 3, seed)) for seed in range(4)]})
    files = [encoded(picture(6, 5, 1, 9)), encoded(picture(6, 5, 3, 8), "JPEG"), encoded(picture(9, 11, 3, 7))]
    assert_equal_ways(pipeline, batch({"image": files}), {"image": files})
    assert_equal_ways(pipeline, batch({"image": files[:2]}), {"image": files[:2]})
    assert_equal_ways(pipeline, batch({"image": [b"none"]}), {"image": [b"none"]})


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("crop", [1.0, 0.6])
def test_resized_pixels(fit: str, crop: float) -> None:
    """Raw pixels of any size are fitted alike; without `resize` both ways refuse another size."""
    train, other = np.stack([picture(6, 5, 3, seed) for seed in range(4)]), picture(9, 11, 3)[None]
    image = {"size": [6, 5], "fit": fit, "crop": crop, "background": "black"}
    for resize in (True, False):
        column = Column("i", "image", shape=(6, 5, 3), nullable=False, resize=resize)
        pipeline = fitted([column], {"i": train}, image=image)
        for pixels in (other, train):
            assert_equal_ways(pipeline, batch({"i": pixels}), {"i": pixels})


@pytest.mark.parametrize(
    "image", [{"normalise": "unit"}, {"normalise": "none"}, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}]
)
def test_scaled_images(image: dict[str, Any]) -> None:
    """Every scaling of pixels, files with transparent parts among them."""
    column = Column("i", "image", shape=(6, 5, 3), nullable=False, encoded=True)
    clear = np.dstack([picture(6, 5, 3), picture(6, 5, 1)])
    files = [encoded(picture(6, 5, 3)), encoded(clear)]
    pipeline = fitted([column], {"i": files}, image=image)
    assert_equal_ways(pipeline, batch({"i": files}), {"i": files})


@given(
    rows=st.lists(
        st.tuples(numbers, texts, hnp.arrays(np.float32, 2, elements=st.floats(-5, 5, width=32)), texts), max_size=5
    )
)
@FEW
def test_mixed_columns(rows: list[tuple[Any, ...]]) -> None:
    """Numbers, categories and a vector side by side are concatenated in the same order with the same bits."""
    columns = [
        Column("colour", "categorical"),
        Column("size", "numeric"),
        Column("x", "tensor", shape=(2,), nullable=False),
        Column("kind", "categorical"),
    ]
    train = {
        "colour": ["red", "green", None, "red"],
        "size": [1.0, None, 3.0, 4.0],
        "x": np.arange(8, dtype=np.float32).reshape(4, 2),
        "kind": ["3", "4", "true", "3"],
    }
    pipeline = fitted(columns, train)
    tensors = np.array([row[2] for row in rows], dtype=np.float32).reshape(len(rows), 2)
    values = {
        "size": [row[0] for row in rows],
        "colour": [row[1] for row in rows],
        "kind": [row[3] for row in rows],
        "x": tensors,
    }
    raw = batch(
        {
            "size": pa.array([_as_float(cell) for cell in values["size"]], pa.float64()),
            "colour": pa.array(values["colour"], pa.string()),
            "kind": pa.array(values["kind"], pa.string()),
            "x": tensors,
        }
    )
    assert_equal_ways(pipeline, raw, values)


def _as_float(cell: float | Decimal | None) -> float | None:
    return None if cell is None else float(cell)


@pytest.mark.parametrize("cyclic", [True, False])
@pytest.mark.parametrize("nullable", [True, False])
@given(
    cells=st.lists(
        st.one_of(
            st.datetimes().map(lambda time: time.isoformat()),
            st.datetimes().map(lambda time: time.isoformat(" ")),
            st.dates().map(str),
            st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat()),
            st.sampled_from(
                ["2024-02-29T12:30", "2024-02-30", "2024-02-29T24:00:00", "20240229", "12:30", " 2024-01-01"]
            ),
            texts,
        ),
        max_size=6,
    )
)
@example(cells=[])
@FEW
def test_dates_as_text(cyclic: bool, nullable: bool, cells: list[str | None]) -> None:
    """ISO texts with and without a time or a zone, others, and missing ones: equal bits or the same refusal."""
    pipeline = date_pipeline(cyclic=cyclic, nullable=nullable)
    assert_equal_ways(pipeline, batch({"when": pa.array(cells, pa.string())}), {"when": cells})


@given(cells=st.lists(st.one_of(st.datetimes(), st.none()), max_size=6))
@FEW
def test_dates_as_times(cells: list[Any]) -> None:
    """Typed timestamps in training and the same times as Python objects in serving."""
    pipeline = date_pipeline(cyclic=True, nullable=True)
    assert_equal_ways(pipeline, batch({"when": pa.array(cells, pa.timestamp("us"))}), {"when": cells})


@given(cells=st.lists(st.one_of(st.dates().map(str), texts, st.sampled_from(["2024-02-30", "12:30"])), max_size=6))
@FEW
def test_unreadable_dates(cells: list[str | None]) -> None:
    """What is no date is a missing one in both ways where the column says so."""
    pipeline = fitted([Column("when", "date", unreadable="missing")], {"when": ["2024-02-29", "1999-12-31"]})
    assert_equal_ways(pipeline, batch({"when": pa.array(cells, pa.string())}), {"when": cells})


def date_pipeline(*, cyclic: bool, nullable: bool) -> Pipeline:
    parts = ["elapsed", "year", "month", "day", "day_of_year", "weekday", "is_weekend", "hour", "minute"]
    rows = {"when": ["2024-02-29", "1999-12-31T23:59:59.999999", "2001-01-01 00:00:00"]}
    return fitted(
        [Column("when", "date", nullable=nullable)], rows, date=parts, cyclic_dates=cyclic, missing_indicator=True
    )
