"""Building, fitting and storing a pipeline; that its two ways are equal is in `conformance`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError, StateError
from corelane.data.config import PipelineConfig
from corelane.data.pipeline import Pipeline, TensorSpec
from corelane.data.schema import Column, Schema
from tests.data.examples import LABEL, batch, fitted, picture

COLUMNS = [
    Column("colour", "categorical"),
    Column("age", "numeric"),
    Column("x", "tensor", shape=(2,), nullable=False),
    Column("size", "numeric"),
    Column("series", "tensor", shape=(2, 3), nullable=False),
    Column("image", "image", shape=(4, 5, 3), nullable=False),
]


def train_rows() -> dict[str, Any]:
    generator = np.random.default_rng(3)
    return {
        "colour": ["red", "green", None, "red"],
        "age": [1.0, None, 0.1, 4.0],
        "x": generator.normal(size=(4, 2)),
        "size": [1 / 3, 2.0, 3.0, None],
        "series": generator.normal(size=(4, 2, 3)),
        "image": np.stack([picture(4, 5, 3, seed) for seed in range(4)]),
    }


def checked_rows(schema: Schema, rows: dict[str, Any]) -> pa.RecordBatch:
    return schema.check(batch(rows | {"label": ["a", "b", "a", "b"]}), needs_target=True).rows


def test_outputs_are_named_by_what_they_hold() -> None:
    """Numbers, then categories and vectors in schema order, are "features"; tensors and images stand alone."""
    pipeline = fitted(COLUMNS, train_rows())
    assert pipeline.outputs == {
        "features": TensorSpec("float32", (2 + 3 + 2,)),
        "tensor": TensorSpec("float32", (2, 3)),
        "image": TensorSpec("float32", (3, 4, 5)),
    }
    outputs = pipeline.transform(checked_rows(pipeline.schema, train_rows()))
    assert list(outputs) == list(pipeline.outputs)
    for name, spec in pipeline.outputs.items():
        assert outputs[name].shape == (4, *spec.shape)
        assert outputs[name].dtype == spec.dtype
        assert outputs[name].flags.c_contiguous


def test_several_images_keep_their_names() -> None:
    """Two columns of a kind are told apart by their names."""
    columns = [Column(name, "image", shape=(4, 5, 1), nullable=False) for name in ("left", "right")]
    pixels = np.stack([picture(4, 5, 1, seed) for seed in range(4)])
    assert list(fitted(columns, {"left": pixels, "right": pixels}).outputs) == ["image_left", "image_right"]


def test_categories_order() -> None:
    """Slot 0 is the unknown bucket, then the texts of the training part, sorted."""
    pipeline = fitted([Column("c", "categorical")], {"c": ["b", "a", None, "b"]})
    rows = pipeline.schema.check(batch({"c": ["a", "b", "never seen", None]}), needs_target=False).rows
    assert pipeline.transform(rows)["features"].tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]


class TestFit:
    def test_leaves_the_unfitted_pipeline_as_it_was(self) -> None:
        """Fitting twice gives equal pipelines, and other rows give another."""
        schema = Schema(tuple(COLUMNS), (LABEL,), "classification")
        unfitted = Pipeline.build(schema, PipelineConfig())
        rows = checked_rows(schema, train_rows())
        first, second = unfitted.fit([rows]), unfitted.fit([rows])
        assert first.digest == second.digest
        assert unfitted.fit([rows.slice(0, 3)]).digest != first.digest

    def test_batches_do_not_matter_beyond_rounding(self) -> None:
        """One batch or many: the same statistics up to the last bits."""
        schema = Schema(tuple(COLUMNS), (LABEL,), "classification")
        rows = checked_rows(schema, train_rows())
        unfitted = Pipeline.build(schema, PipelineConfig())
        whole = unfitted.fit([rows]).transform(rows)
        parts = unfitted.fit(rows.slice(index, 1) for index in range(4)).transform(rows)
        for name, array in whole.items():
            np.testing.assert_allclose(parts[name], array, rtol=1e-6, atol=1e-6)

    def test_needs_rows_and_a_target(self) -> None:
        """No rows, and a schema that predicts nothing, are refused in words."""
        schema = Schema(tuple(COLUMNS), (LABEL,), "classification")
        with pytest.raises(DataError, match="at least one training row, got none"):
            Pipeline.build(schema, PipelineConfig()).fit([])
        with pytest.raises(ConfigError, match="must have a target to learn"):
            Pipeline.build(Schema(tuple(COLUMNS), (), "classification"), PipelineConfig())


class TestColumns:
    def test_a_column_has_its_own_settings(self) -> None:
        """What is said of one column holds for it; the others are as the pipeline says."""
        own = {"age": {"numeric": "none"}, "colour": {"categorical": "hashing", "hash_buckets": 9}}
        pipeline = fitted(COLUMNS, train_rows(), columns=own, impute="constant", fill_value=5.0)
        features = pipeline.transform(checked_rows(pipeline.schema, train_rows()))["features"]
        assert features[:, 0].tolist() == np.array([1.0, 5.0, 0.1, 4.0], dtype=np.float32).tolist()
        assert features.shape == (4, 2 + 10 + 2)

    def test_a_column_has_its_own_imputation(self) -> None:
        """Another statistic or constant for a number; the most frequent text or one of the user's for a category."""
        own = {
            "age": {"impute": "mean", "numeric": "none"},
            "size": {"impute": "constant", "fill_value": -1, "numeric": "none"},
            "colour": {"impute": "constant", "fill_value": " green "},
        }
        pipeline = fitted(COLUMNS, train_rows(), columns=own)
        features = pipeline.transform(checked_rows(pipeline.schema, train_rows()))["features"]
        assert features[1, 0] == np.float32((1.0 + 0.1 + 4.0) / 3)
        assert features[3, 1] == -1.0
        assert features[2, 2:5].tolist() == [0.0, 1.0, 0.0]
        frequent = fitted(COLUMNS, train_rows(), columns={"colour": {"impute": "mode"}})
        rows = checked_rows(frequent.schema, train_rows())
        assert frequent.transform(rows)["features"][2, 2:5].tolist() == [0.0, 0.0, 1.0]
        again = Pipeline.from_json(json.loads(json.dumps(frequent.to_json())))
        assert again.transform(rows)["features"].tobytes() == frequent.transform(rows)["features"].tobytes()

    @pytest.mark.parametrize(
        ("own", "message"),
        [
            ({"age": {"impute": "constant", "fill_value": "old"}}, "age.fill_value must be a number"),
            ({"colour": {"impute": "median"}}, "colour.impute must be mode or constant"),
            ({"colour": {"impute": "constant", "fill_value": " NA"}}, "colour.fill_value must be a category"),
            ({"x": {"impute": "mode"}}, "x.impute must be left out for tensor columns"),
            ({"aeg": {"numeric": "log"}}, "feature columns of the data, got 'aeg'; did you mean 'age'"),
            ({"label": {"numeric": "log"}}, "feature columns of the data, got 'label'"),
            ({"age": {"categorical": "ordinal"}}, "age.categorical must be left out for numeric columns"),
            ({"colour": {"numeric": "log"}}, "colour.numeric must be left out for categorical columns"),
            ({"image": {"numeric": "log"}}, "image.numeric must be left out for image columns"),
            ({"colour": {"hash_buckets": 9}}, "colour.hash_buckets must be left out unless its categorical is hashing"),
        ],
    )
    def test_refuses_what_would_have_no_effect(self, own: Any, message: str) -> None:
        """A name the data does not have, and a setting of another kind."""
        with pytest.raises(ConfigError, match=message):
            Pipeline.build(Schema(tuple(COLUMNS), (LABEL,), "classification"), PipelineConfig(columns=own))

    def test_spans_say_where_a_column_lies(self) -> None:
        """In order and without gaps; an indicator is a second span of its column."""
        pipeline = fitted(COLUMNS, train_rows(), missing_indicator=True)
        spans = [(span.column, span.is_numeric, span.stop - span.start) for span in pipeline.feature_spans]
        numbers = [("age", True, 1), ("size", True, 1), ("age", False, 1), ("size", False, 1)]
        assert spans == [*numbers, ("colour", False, 3), ("x", True, 2)]


class TestDigest:
    def test_of_the_unfitted_pipeline_follows_schema_and_configuration(self) -> None:
        """Equal questions have equal digests; every setting and every column's limit changes it."""

        def digest(*columns: Column, **config: Any) -> str:
            schema = Schema(columns or (Column("a", "numeric"), Column("c", "categorical")), (LABEL,), "classification")
            return Pipeline.build(schema, PipelineConfig(**config)).digest

        digests = [
            digest(),
            digest(numeric="min_max"),
            digest(numeric="normalise"),
            digest(missing_indicator=True),
            digest(categorical="hashing"),
            digest(categorical="hashing", hash_buckets=5),
            digest(columns={"a": {"numeric": "log"}}),
            digest(columns={"c": {"categorical": "hashing", "hash_buckets": 7}}),
            digest(impute="mean"),
            digest(impute="constant"),
            digest(impute="constant", fill_value=1.0),
            digest(categorical="ordinal"),
            digest(max_categories=5),
            digest(Column("a", "numeric", minimum=0.0), Column("c", "categorical")),
            digest(Column("c", "categorical"), Column("a", "numeric")),
        ]
        assert len(set(digests)) == len(digests)
        assert digest() == digests[0]


class TestJson:
    @pytest.mark.parametrize("numeric", ["standardise", "robust", "quantile_normal", "log", "normalise", "none"])
    @pytest.mark.parametrize("categorical", ["one_hot", "ordinal", "hashing"])
    def test_round_trip_is_exact(self, numeric: str, categorical: str) -> None:
        """Through JSON text and back: the same digest, the same target, the same output bits."""
        image = {"size": [4, 5], "fit": "pad"}
        pipeline = fitted(
            COLUMNS, train_rows(), numeric=numeric, categorical=categorical, missing_indicator=True, image=image
        )
        again = Pipeline.from_json(json.loads(json.dumps(pipeline.to_json())))
        assert again.digest == pipeline.digest
        assert again.schema == pipeline.schema
        assert again.outputs == pipeline.outputs
        assert again.target.labels == pipeline.target.labels
        rows = checked_rows(pipeline.schema, train_rows())
        expected = pipeline.transform(rows)
        for name, array in again.transform(rows).items():
            assert array.tobytes() == expected[name].tobytes()

    def test_every_part_refuses_another_version(self) -> None:
        """A version from the future in the pipeline, its schema, any stage or the target is a StateError."""
        stored = fitted(COLUMNS, train_rows()).to_json()
        stages = [("outputs", block, "stages", index) for block in (0, 1, 2) for index in (0,)]
        for path in [(), ("schema",), ("target",), *stages, ("outputs", 0, "stages", 1)]:
            changed = json.loads(json.dumps(stored))
            part = changed
            for key in path:
                part = part[key]
            part["version"] = 99
            with pytest.raises(StateError, match="99"):
                Pipeline.from_json(changed)

    def test_refuses_parts_that_do_not_fit(self) -> None:
        """A missing, unknown or doubled stage, a foreign column or a short array never makes a pipeline."""
        stored = json.dumps(fitted(COLUMNS, train_rows()).to_json())

        def changed(change: Any) -> Any:
            data = json.loads(stored)
            change(data)
            return data

        def first(data: Any) -> Any:
            return data["outputs"][0]["stages"][0]

        for change in (
            lambda data: data.pop("schema"),
            lambda data: data.update(outputs=3),
            lambda data: data["outputs"].pop(),
            lambda data: data["outputs"].append(data["outputs"][0]),
            lambda data: data["outputs"][0].update(stages=[]),
            lambda data: first(data).update(stage="os.system"),
            lambda data: first(data).update(columns=["colour"]),
            lambda data: first(data).update(columns=["nobody"]),
            lambda data: first(data)["center"].pop(),
            lambda data: first(data).update(scale=[1.0, float("nan")]),
            lambda data: first(data).update(fill=["1", 2.0]),
            lambda data: data["outputs"][0]["stages"][1].update(categories=["a", "a"]),
            lambda data: data["outputs"][0]["stages"][1].update(encoding="hash"),
            lambda data: data["target"].update(columns=["age"]),
            lambda data: data["target"].update(label_type="int"),
            lambda data: data["target"].update(std=0.0),
        ):
            with pytest.raises(StateError):
                Pipeline.from_json(changed(change))
        assert Pipeline.from_json(json.loads(stored)).outputs


def test_what_an_earlier_release_wrote_keeps_its_meaning() -> None:
    """Its pipeline of two labels reads as a network's with an output for each of them."""
    written = fitted([Column("x", "numeric")], {"x": [1.0, 2.0, 4.0]}).to_json()
    columns = written["schema"]["columns"]
    schema = {"version": 2, "task": "classification", "columns": columns, "target": LABEL.to_json()}
    target = {
        "version": 1,
        "task": "classification",
        "column": "label",
        "label_type": "string",
        "labels": ["no", "yes"],
    }
    older = Pipeline.from_json({**written, "schema": schema, "target": target | {"mean": 0.0, "std": 1.0}})
    assert (older.target.task, older.target.num_outputs, older.target.labels) == ("multi_class", 2, ("no", "yes"))
    assert older.schema.targets == (LABEL,)
