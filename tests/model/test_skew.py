"""`model.skew`: what the skew gate asks, and what it lets pass."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.core.errors import SkewError
from corelane.core.types import NamedArrays
from corelane.model.export import reference_predictor
from corelane.model.skew import MAX_PROBES, UNSEEN, Tolerance, compare, probe_rows, raw_columns, skew_gate
from tests.model import examples

TOLERANCE = Tolerance(absolute=1e-4, relative=1e-3)


def classes(*rows: tuple[str, float, float]) -> dict[str, np.ndarray]:
    return {
        "label": np.array([row[0] for row in rows], dtype=object),
        "probabilities": np.array([row[1:] for row in rows], dtype=np.float32),
    }


def test_probes_hold_missing_values_and_unseen_categories() -> None:
    """After the rows themselves, each nullable column is missing once and each open category unseen once."""
    source = examples.mixed()
    probes = probe_rows(source.pipeline, source.gate)
    columns = {name: probes.column(name).to_pylist() for name in probes.schema.names}
    assert list(columns) == ["size", "island", "sex"]  # the target is not sent
    base = source.checked.num_rows
    assert probes.slice(0, base).equals(source.checked.select(list(columns)))
    assert columns["size"][base:].count(None) >= 1
    assert columns["island"][base + 1 :] == [None, UNSEEN]
    assert set(columns["sex"]) == {"f", "m"}  # neither nullable nor open
    assert not source.pipeline.schema.check(probes, needs_target=False).rejects


def test_probes_are_bounded() -> None:
    """At most 1,000 rows are asked, whatever is given."""
    source = examples.matrix(4, 2, num_rows=1500)
    assert probe_rows(source.pipeline, source.gate).num_rows == MAX_PROBES


def test_no_rows_is_no_gate() -> None:
    """A gate without rows proves nothing and is refused."""
    source = examples.mixed()
    with pytest.raises(SkewError, match="at least one row"):
        probe_rows(source.pipeline, source.gate.slice(0, 0))


@pytest.mark.parametrize("make", [examples.mixed, examples.matrix, examples.regression, examples.images])
def test_the_serving_path_passes(make: object) -> None:
    """The compiled path over raw columns equals the columns way on every kind of schema."""
    source = make()  # type: ignore[operator]
    with reference_predictor(source.module(), source) as reference:
        agreement = skew_gate(
            reference,
            source.gate,
            lambda rows: reference.predict_columns(raw_columns(rows)),
            Tolerance.fp32(source.pipeline.target),
        )
    assert agreement.num_rows >= source.gate.num_rows
    assert agreement.largest_difference < 1e-6 * (1 + source.pipeline.target.std)


def test_another_network_does_not_pass() -> None:
    """A server that answers with other weights is caught."""
    source = examples.mixed()
    with (
        reference_predictor(source.module(seed=0), source) as reference,
        reference_predictor(source.module(seed=1), source) as other,
        pytest.raises(SkewError, match="the package is not what was trained"),
    ):
        skew_gate(reference, source.gate, other.predict_table, TOLERANCE)


def test_a_pipeline_that_treats_missing_values_otherwise_does_not_pass() -> None:
    """A served path that drops missing values to zero is caught, though complete rows agree."""
    source = examples.mixed()
    complete = source.gate.filter(source.gate["size"].is_valid())

    def careless(rows: object) -> NamedArrays:
        columns = raw_columns(rows)  # type: ignore[arg-type]
        columns["size"] = np.nan_to_num(columns["size"])
        return reference.predict_columns(columns)

    with (
        reference_predictor(source.module(), source) as reference,
        pytest.raises(SkewError, match=f"of row {complete.num_rows}"),
    ):
        skew_gate(reference, complete, careless, TOLERANCE)


def test_numbers_within_tolerance_pass_and_beyond_do_not() -> None:
    """The bound is absolute + relative x expected; the error names row, output and both values."""
    expected = {"value": np.array([10.0, -2.0, 0.0])}
    got = {"value": np.array([10.01, -2.002, 0.0001])}
    assert compare(expected, got, TOLERANCE).largest_difference == pytest.approx(0.01)
    with pytest.raises(SkewError, match=r"served value of row 1 must be -2\.0 within .* got -2\.003"):
        compare(expected, {"value": np.array([10.0, -2.003, 0.0])}, TOLERANCE)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf]])
def test_what_is_not_a_number_never_passes(values: list[float]) -> None:
    """Not even when the training path answers the same: such a package is of no use."""
    answers, finite = {"value": np.array(values)}, {"value": np.array([1.0])}
    for expected, got in ((answers, answers), (answers, finite), (finite, answers)):
        with pytest.raises(SkewError):
            compare(expected, got, TOLERANCE)


def test_labels_must_be_equal() -> None:
    """Equal probabilities do not excuse another label."""
    with pytest.raises(SkewError, match="served label of row 0 must be 'a', got 'b'"):
        compare(classes(("a", 0.7, 0.3)), classes(("b", 0.7, 0.3)), TOLERANCE)


def test_a_tie_may_be_broken_either_way() -> None:
    """Where two classes are as likely within the tolerance, either label is right; where they are not, it is not."""
    compare(classes(("a", 0.50001, 0.49999)), classes(("b", 0.49999, 0.50001)), TOLERANCE)
    loose = Tolerance(absolute=0.02, relative=0.0)
    with pytest.raises(SkewError, match="served label"):
        compare(classes(("a", 0.53, 0.47)), classes(("b", 0.512, 0.488)), loose)


def test_label_sets_must_be_equal() -> None:
    """Where a row may have several labels, each is compared, unless it is as likely as not."""
    expected = {"labels": np.array([[True, False]]), "probabilities": np.array([[0.9, 0.49999]], dtype=np.float32)}
    compare(expected, {**expected, "labels": np.array([[True, True]])}, TOLERANCE)
    with pytest.raises(SkewError, match=r"served labels of row 0 must be \[True, False\]"):
        compare(expected, {**expected, "labels": np.array([[False, False]])}, TOLERANCE)


@pytest.mark.parametrize(
    "got",
    [
        {"value": np.zeros(1)},
        {"label": np.array(["a"], dtype=object)},
        classes(("a", 0.7, 0.3), ("a", 0.7, 0.3)),
        {"label": np.array(["a"], dtype=object), "probabilities": np.full((1, 3), 1 / 3)},
    ],
)
def test_other_outputs_or_shapes_do_not_pass(got: dict[str, np.ndarray]) -> None:
    """The served outputs have the expected names, rows and widths."""
    with pytest.raises(SkewError, match="must"):
        compare(classes(("a", 0.7, 0.3)), got, TOLERANCE)


def test_tolerance_of_a_regression_is_in_the_targets_unit() -> None:
    """A target in thousands is not held to a ten-thousandth."""
    pipeline = examples.regression().pipeline
    assert Tolerance.fp32(pipeline.target).absolute == pytest.approx(1e-4 * pipeline.target.std)
    assert Tolerance.fp32(examples.mixed().pipeline.target).absolute == 1e-4


def test_a_wider_tolerance_lets_its_own_graph_pass_with_room() -> None:
    """It is twice the largest difference of any runtime's answers above the one it was; NaN has none."""
    expected = classes(("a", 0.7, 0.3), ("b", 0.2, 0.8))
    answers = [classes(("a", 0.69, 0.31), ("b", 0.2, 0.8)), classes(("a", 0.7, 0.3), ("b", 0.23, 0.77))]
    wide = TOLERANCE.widened(expected, answers)
    assert wide.absolute == pytest.approx(1e-4 + 2 * 0.03, rel=1e-5)
    assert wide.relative == TOLERANCE.relative
    for got in answers:
        compare(expected, got, wide)
    with pytest.raises(SkewError, match="served probabilities of row 0"):
        compare(expected, classes(("a", 0.6, 0.4), ("b", 0.2, 0.8)), wide)
    with pytest.raises(SkewError, match="must be finite"):
        TOLERANCE.widened({"value": np.ones(1)}, [{"value": np.array([np.nan])}])


def test_each_output_of_a_foreign_network_has_a_tolerance_of_its_own() -> None:
    """A large output does not make it wide for a small one; whole numbers must be equal."""
    expected = {
        "large": np.array([[1e6], [-1e6]], dtype=np.float32),
        "small": np.array([1e-4, 2e-4], dtype=np.float32),
        "best": np.array([3, 1000]),
    }
    tolerance = Tolerance.of_answers(expected)
    compare(expected, {**expected, "large": expected["large"] + 500, "small": expected["small"] * 1.0005}, tolerance)
    for name, values in (("small", expected["small"] + 1e-5), ("best", np.array([3, 1001]))):
        with pytest.raises(SkewError, match=f"served {name}"):
            compare(expected, {**expected, name: values}, tolerance)
    wide = tolerance.widened(expected, [{**expected, "large": expected["large"] + 5000}])
    with pytest.raises(SkewError, match="served small"):
        compare(expected, {**expected, "small": expected["small"] + 1e-5}, wide)
    compare(expected, {**expected, "large": expected["large"] + 9000}, wide)


def test_what_is_not_finite_does_not_widen_a_tolerance() -> None:
    """Nor does an output of zeros allow more than what rounding leaves."""
    tolerance = Tolerance.of_answers({"a": np.array([1.0, np.inf, np.nan]), "b": np.zeros(2, dtype=np.float32)})
    assert tolerance.by_output["a"] == pytest.approx(1e-4)
    assert 0.0 < tolerance.by_output["b"] <= 1e-9
