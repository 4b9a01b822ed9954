"""`model.config`: what a user may say about the network, and what is refused."""

from __future__ import annotations

import pytest

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError
from corelane.model.config import ModelConfig, PackageConfig


def test_widths_default_to_those_of_the_net() -> None:
    """Left out, `hidden` is [256, 256] for an mlp and [128] for a cnn; given, it is taken, even empty."""
    assert ModelConfig().widths == (256, 256)
    assert ModelConfig(net="cnn").widths == (128,)
    assert ModelConfig(net="cnn", hidden=[]).widths == ()


def test_import_path_takes_arguments() -> None:
    """A user's class is named `package.module:Class` and gets keyword arguments."""
    config = ModelConfig(net="mine.nets:Tiny", arguments={"width": 3})
    assert config.arguments == {"width": 3}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"net": "resnet"}, "net must be mlp, cnn or package.module:Class, got 'resnet'"),
        ({"net": "mine.nets:"}, "net must be mlp, cnn or package.module:Class"),
        ({"net": "../evil:Class"}, "net must be mlp, cnn or package.module:Class"),
        ({"net": "mlp", "channels": [8]}, "channels must be left out for the network mlp"),
        ({"net": "mlp", "batch_norm": True}, "batch_norm must be left out for the network mlp"),
        ({"net": "cnn", "arguments": {"a": 1}}, "arguments must be left out for the network cnn"),
        ({"net": "mine:Net", "dropout": 0.5}, "dropout must be left out for the network mine:Net"),
        ({"dropout": 1.0}, "dropout must be less than 1, got 1.0"),
        ({"hidden": [0]}, "hidden.0 must be greater than or equal to 1, got 0"),
        ({"net": "cnn", "channels": []}, "channels"),
        ({"widths": [3]}, "widths must be a known key"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], words: str) -> None:
    """A name that is no net, an option the net does not read, or a number out of range is one clear ConfigError."""
    with pytest.raises(ConfigError) as error:
        validate_config(values, ModelConfig)
    assert words in str(error.value)


def test_resolved_configuration_is_valid_again() -> None:
    """What `model_dump` writes into a run's config.yaml can be read back, defaults included."""
    config = ModelConfig(net="cnn", dropout=0.25)
    assert ModelConfig.model_validate(config.model_dump(mode="json")) == config
    assert PackageConfig().include_rows
