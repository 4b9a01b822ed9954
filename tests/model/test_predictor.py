"""`model.predictor`: the one way from raw values to an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from corelane.core.errors import NotReadyError, RequestError
from corelane.model.export import reference_predictor
from corelane.model.predictor import Predictor
from corelane.model.skew import raw_columns
from tests.model import examples
from tests.model.examples import Example

SOURCES = [examples.mixed, examples.matrix, examples.regression, examples.images, examples.multi_label]


@pytest.fixture
def mixed() -> Iterator[Predictor]:
    with reference_predictor(examples.mixed().module(), examples.mixed()) as predictor:
        yield predictor


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize("num_rows", [1, 7])
def test_every_way_in_gives_the_same_answers(make: Callable[[], Example], num_rows: int) -> None:
    """Columns, rows and the checked table give equal answers; so does one row or many."""
    source = make()
    with reference_predictor(source.module(), source) as predictor:
        names = list(source.pipeline.schema.names)
        checked = source.checked.select(names).slice(3, num_rows)
        by_table = predictor.predict_table(checked)
        by_columns = predictor.predict_columns(raw_columns(checked))
        columns = {
            name: values if isinstance(values, list) else values.tolist()
            for name, values in raw_columns(checked).items()
        }
        rows = [{name: columns[name][index] for name in names} for index in range(num_rows)]
        by_rows = predictor.predict_rows(rows)
    assert by_table.keys() == by_columns.keys()
    for name, values in by_table.items():
        np.testing.assert_array_equal(by_columns[name], values)
    assert by_rows == predictor.records(by_table)


def test_a_matrix_stands_for_numeric_columns() -> None:
    """[n, d] in schema order, float32 or float64, equals the columns one by one."""
    source = examples.matrix()
    values = np.random.default_rng(0).normal(3, 2, (5, 32)).astype(np.float32)
    columns = {f"x{index}": values[:, index] for index in range(32)}
    with reference_predictor(source.module(), source) as predictor:
        expected = predictor.predict_columns(columns)
        for matrix in (values, values.astype(np.float64)):
            answers = predictor.predict_matrix(matrix)
            np.testing.assert_array_equal(answers["label"], expected["label"])
            np.testing.assert_allclose(answers["probabilities"], expected["probabilities"], rtol=1e-6)


def test_rows_are_answered_as_plain_json(mixed: Predictor) -> None:
    """One dict per row, with the label and a probability by label that sum to one, all of plain types."""
    answers = mixed.predict_rows(
        [{"size": 41.5, "island": None, "sex": "f"}, {"size": None, "island": "a", "sex": "m"}]
    )
    assert json.loads(json.dumps(answers)) == answers
    for answer in answers:
        assert answer["probabilities"].keys() == {"x", "y", "z"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "rows must have at least one row"),
        (
            [{"size": 1.0, "island": "a", "sex": "m"}, {"size": 1.0, "island": "a"}],
            "row 1 must have the columns of row 0",
        ),
        ([{"size": 1.0, "island": "a"}], "'sex' must be given"),
        ([{"size": 1.0, "island": "a", "sex": "m", "age": 3}], "unknown"),
        ([{"size": "big", "island": "a", "sex": "m"}], "row 0: size must be"),
        ([{"size": 1.0, "island": "a", "sex": "q"}], "row 0: sex must be"),
    ],
)
def test_rows_that_do_not_fit_are_a_request_error(mixed: Predictor, rows: list[dict[str, object]], words: str) -> None:
    """A missing or unknown column or a wrong value is the client's mistake, said with the row."""
    with pytest.raises(RequestError) as error:
        mixed.predict_rows(rows)
    assert words in str(error.value)


def test_closing_closes_the_runtime() -> None:
    """The predictor owns its runtime; after `close`, which may be called twice, it refuses."""
    source = examples.matrix(4, 2)
    predictor = reference_predictor(source.module(), source)
    predictor.close()
    predictor.close()
    with pytest.raises(NotReadyError):
        predictor.predict_matrix(np.zeros((1, 4)))
