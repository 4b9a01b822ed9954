"""Graphs in other precisions are judged on rows with a truth; what loses too much does not survive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from corelane.core.errors import GoldenError
from corelane.model.candidate import Candidate
from corelane.model.package import ModelPackage, write_package
from corelane.model.precisions import FP32, INT8, MIXED, Precision, Precisions
from corelane.model.runtimes.onnx.quantizer import Quantizer
from corelane.model.runtimes.opening import INT16
from tests.model import examples


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    contents = examples.contents(examples.matrix())
    return ModelPackage.load(write_package(tmp_path_factory.mktemp("packages"), contents, lambda _: None))


def precisions(package: ModelPackage, most_drop: float) -> dict[str, Precision]:
    rows = package.calibration()
    assert rows is not None
    made = Precisions(package, calibration=rows, judged=rows, isa=(), most_drop=most_drop)
    return {one.name: one for one in made.all()}


def test_every_precision_is_judged_against_float32(package: ModelPackage) -> None:
    """The drop is of the float32 graph's quality; a generous bound keeps all, each with a tolerance of its own."""
    found = precisions(package, 0.5)
    assert list(found) == [FP32, INT8, INT16]
    assert all(one.is_kept for one in found.values())
    assert found[FP32].drop == 0.0
    assert found[INT8].drop == pytest.approx(found[FP32].quality - found[INT8].quality)
    assert found[INT8].tolerance.absolute > found[FP32].tolerance.absolute


def test_what_loses_too_much_is_mixed_or_dropped(package: ModelPackage) -> None:
    """A bound that nothing can hold drops int8; the mixture, where there is one, is the one that holds it."""
    found = precisions(package, -1.0)
    assert not found[INT8].is_kept
    assert "more than" in found[INT8].verdict
    assert MIXED not in found


def test_a_broken_quantised_graph_fails_its_golden_rows(package: ModelPackage, tmp_path: Path) -> None:
    """The tolerance is that of rounding: a graph whose first layer has lost its range is far outside."""
    found = precisions(package, 0.5)[INT8]
    rows = package.pipeline.transform(package.golden.rows) if package.golden else {}
    narrow = [{name: values * 0.02 for name, values in rows.items()}]
    broken = Quantizer(package.graphs[FP32].read_bytes(), narrow).quantized()
    contents = examples.contents(examples.matrix(), name="broken")
    contents = replace(
        contents,
        graphs={**contents.graphs, INT8: broken},
        tolerances={**contents.tolerances, INT8: found.tolerance},
    )
    opened = ModelPackage.load(write_package(tmp_path / "packages", contents, lambda _: None))
    candidate = Candidate("onnxruntime", INT8)
    with opened.predictor(candidate) as predictor, pytest.raises(GoldenError):
        opened.check_golden(predictor, graph=INT8)
