"""The moving average of the weights."""

from __future__ import annotations

from contextlib import suppress

import pytest
from torch import nn

from corelane.core.errors import StateError
from corelane.train.averaging import AveragedWeights, NoAverage, averaging_for
from tests.train.examples import picture_net, weights


def moved(net: nn.Module, average: AveragedWeights, steps: int) -> None:
    """`steps` steps that add one to every floating-point value of `net`."""
    for _ in range(steps):
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(1.0)
        average.update()


def test_it_follows_the_formula() -> None:
    """After t updates the decay is min(decay, (1 + t) / (10 + t)), for parameters and buffers."""
    net = nn.BatchNorm1d(1)
    average = AveragedWeights(net, decay=0.2)
    expected, value = 0.0, 0.0
    for t in range(1, 6):
        moved(net, average, 1)
        value += 1.0
        decay = min(0.2, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * value
    with average.swapped_in():
        assert float(net.running_mean) == pytest.approx(expected, rel=1e-6)
        assert net.weight.item() == pytest.approx(1.0 + expected, rel=1e-6)


def test_the_weights_come_back_bit_for_bit() -> None:
    """Inside the context the network has the average, afterwards its own weights again, also after an error."""
    net = picture_net()
    average = AveragedWeights(net, decay=0.9)
    moved(net, average, 3)
    own = weights(net)
    with average.swapped_in():
        assert weights(net) != own
    assert weights(net) == own
    with suppress(RuntimeError), average.swapped_in():
        raise RuntimeError
    assert weights(net) == own


def test_its_state_goes_on_where_it_was() -> None:
    """Saved and loaded, the average takes the same further steps."""
    nets = [picture_net(), picture_net()]
    averages = [AveragedWeights(net, decay=0.9) for net in nets]
    moved(nets[0], averages[0], 4)
    nets[1].load_state_dict(nets[0].state_dict())
    averages[1].load_state_dict(averages[0].state_dict())
    for net, average in zip(nets, averages, strict=True):
        moved(net, average, 2)
    with averages[0].swapped_in(), averages[1].swapped_in():
        assert weights(nets[0]) == weights(nets[1])


def test_what_does_not_fit_is_refused() -> None:
    """A state of another version, or of another network, is named."""
    average = averaging_for(picture_net(), 0.9)
    with pytest.raises(StateError, match="version"):
        average.load_state_dict({"version": 2})
    with pytest.raises(StateError, match=r"must hold '0\.weight'"):
        average.load_state_dict(AveragedWeights(nn.Linear(2, 2), 0.9).state_dict())


def test_off_is_the_weights_themselves() -> None:
    """Without a decay nothing is kept and nothing is exchanged."""
    net = picture_net()
    average = averaging_for(net, None)
    assert isinstance(average, NoAverage)
    before = weights(net)
    average.update()
    with average.swapped_in():
        assert weights(net) == before
    average.load_state_dict(average.state_dict())
