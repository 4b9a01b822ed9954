"""Freezing parameters by pattern."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.train.freezing import freeze, to_training_mode
from tests.train.examples import picture_net


def test_what_fits_is_frozen() -> None:
    """Parameters that fit a pattern need no gradient, others do."""
    net = picture_net()
    freeze(net, ["0.*", "5.b?as"])
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {"0.weight", "0.bias", "5.bias"}


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    """A mistyped pattern is told, with the names there are."""
    with pytest.raises(ConfigError, match=r"'blocks\.\*', which fits none of 0\.bias, 0\.weight"):
        freeze(picture_net(), ["blocks.*"])


def test_frozen_statistics_stay() -> None:
    """A wholly frozen batch norm stays in evaluation mode, so its statistics do not move; the rest trains."""
    net = picture_net()
    freeze(net, ["1.*"])
    to_training_mode(net)
    before = net[1].running_mean.clone()
    net(torch.randn(4, 1, 8, 8))
    assert torch.equal(net[1].running_mean, before)
    assert [net.training, net[1].training, net[4].training] == [True, False, True]


def test_a_network_without_patterns_trains_whole() -> None:
    """Without patterns everything is in training mode, parts without parameters too."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    freeze(net, [])
    net.eval()
    to_training_mode(net)
    assert all(part.training for part in net.modules())
