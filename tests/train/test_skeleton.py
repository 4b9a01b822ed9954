"""Nested state as JSON and tensors, and back."""

from __future__ import annotations

import json

import pytest
import torch

from corelane.core.errors import StateError
from corelane.train import skeleton


def test_an_optimisers_state_survives_json() -> None:
    """Tensors, tuples and integer keys come back as they were, through JSON text."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    parameter.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    shape, tensors = skeleton.split(state)
    back = skeleton.join(json.loads(json.dumps(shape)), tensors)
    assert back["param_groups"] == state["param_groups"]
    assert back["param_groups"][0]["betas"] == (0.9, 0.999)
    assert list(back["state"]) == [0]
    assert torch.equal(back["state"][0]["exp_avg"], state["state"][0]["exp_avg"])


@pytest.mark.parametrize("value", [{1, 2}, object(), lambda: 0, {(1, 2): 3}, {"$tensor": 1, 2.5: 0}])
def test_what_is_not_data_is_refused(value: object) -> None:
    """A leaf that is neither JSON nor a tensor is named with its path."""
    with pytest.raises(StateError, match=r"inner"):
        skeleton.split({"inner": [value]})


def test_a_key_that_looks_like_a_mark_survives() -> None:
    """A user's own key may be called like one of our marks."""
    tree = {"$tensor": "not one", "$tuple": (1, 2)}
    assert skeleton.join(*skeleton.split(tree)) == tree


def test_a_missing_tensor_is_named() -> None:
    """A skeleton whose tensor is gone is refused by name."""
    with pytest.raises(StateError, match=r"'0\.exp_avg'"):
        skeleton.join({"$tensor": "0.exp_avg"}, {})
