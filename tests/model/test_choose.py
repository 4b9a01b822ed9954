"""`model.choose`: the network that `auto` stands for."""

from __future__ import annotations

import pytest

from corelane.core.errors import ConfigError
from corelane.data.pipeline import TensorSpec
from corelane.model.choose import choose_net, resolved
from corelane.model.config import ModelConfig

TABLE = {"features": TensorSpec("float32", (8,))}


def spec(*shape: int) -> TensorSpec:
    return TensorSpec("float32", shape)


@pytest.mark.parametrize(
    ("inputs", "net"),
    [
        (TABLE, "tabm"),
        ({"features": spec(784)}, "mlp"),
        ({"image": spec(3, 32, 32)}, "cnn"),
        ({"image": spec(1, 2, 32)}, "mlp"),
        ({"tensor": spec(50, 16)}, "gru"),
        ({"tokens": TensorSpec("int64", (64,), vocabulary=1000)}, "transformer"),
        ({"features": spec(8), "image": spec(3, 32, 32)}, "mlp"),
        ({"tensor": spec(2, 3, 4, 5)}, "mlp"),
    ],
)
def test_the_data_decide(inputs: dict[str, TensorSpec], net: str) -> None:
    """Tables, images, series and tokens get the network made for them, anything else a perceptron."""
    assert choose_net(inputs)[0] == net


def test_options_go_to_the_chosen_network() -> None:
    """An option that the chosen network reads is taken over; the result is a configuration that names it."""
    config = resolved(ModelConfig(net="auto", hidden=[7], members=3), TABLE)
    assert (config.net, config.widths, config.members) == ("tabm", (7,), 3)
    assert resolved(config, TABLE) is config


def test_an_option_of_another_network_is_refused() -> None:
    """Channels for a table are a mistake, said as soon as the data are known."""
    with pytest.raises(ConfigError, match=r"model\.channels must be left out for the network tabm, .* for a table"):
        resolved(ModelConfig(net="auto", channels=[8]), TABLE)
