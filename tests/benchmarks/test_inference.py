"""The inference benchmark's own pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.inference.__main__ import CASES, measure_all
from benchmarks.inference.cases import BARS, NETS
from benchmarks.inference.packages import untrained
from benchmarks.measure import BAR, BenchmarkError, argument_parser
from corelane.model.package import ModelPackage


def test_every_bar_belongs_to_a_case_and_one_of_its_peers() -> None:
    """A promise that is never measured is none."""
    for case, peer in BARS:
        assert peer in CASES[case][1]
    assert BAR in CASES["int8-cnn"][1]


def test_unknown_names_are_told() -> None:
    """Before anything is trained."""
    arguments = argument_parser("").parse_args(["--case", "int8-cnn", "--peer", "nobody"])
    with pytest.raises(BenchmarkError, match="--peer must be one of"):
        measure_all(arguments)


@pytest.mark.parametrize("name", NETS)
def test_networks_are_packaged(name: str, tmp_path: Path) -> None:
    """Each is a package with rows, which a plan can be searched for."""
    package = ModelPackage.load(untrained(NETS[name], tmp_path))
    assert package.architecture["net"] == NETS[name].model["net"]
    assert package.holdout() is not None
