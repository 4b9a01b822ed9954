"""`model.candidate`: what a candidate may say, and how it reads."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.errors import StateError
from corelane.model.candidate import SAFE, Candidate


def test_it_reads_as_people_say_it() -> None:
    """A plan's reasons are made of these words."""
    assert str(SAFE) == "fp32 in ONNX Runtime, 1 thread, batch 1"
    assert str(Candidate("openvino", "int8", 2, 4, 32)) == "int8 in OpenVINO, 4 streams x 2 threads, batch 32"
    assert Candidate("openvino", "int8", 2, 4).num_threads == 8


@pytest.mark.parametrize("change", [{"runtime": "tensorrt"}, {"threads": 0}, {"streams": -1}, {"batch": 0}])
def test_what_this_release_does_not_know_is_refused(change: dict[str, Any]) -> None:
    """A plan from another release is searched again, not half understood."""
    with pytest.raises(StateError, match="of a plan must be"):
        Candidate(**{"runtime": "onnxruntime", "graph": "fp32", **change})
