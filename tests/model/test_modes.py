"""`model.modes`: evaluation mode ends as it began, part by part."""

from __future__ import annotations

import pytest
from torch import nn

from corelane.model.modes import evaluating


def test_every_part_gets_its_own_mode_back() -> None:
    """Also after an error, a frozen part stays in evaluation mode and the rest in training mode."""
    module = nn.Sequential(nn.Dropout().eval(), nn.Sequential(nn.Dropout()))
    before = [part.training for part in module.modules()]
    with pytest.raises(ValueError), evaluating(module):  # noqa: PT012 - the state within is the promise
        assert not any(part.training for part in module.modules())
        raise ValueError
    assert [part.training for part in module.modules()] == before == [True, False, True, True]
