"""`model.config`: what a user may say about the network, and what is refused."""

from __future__ import annotations

import pytest

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError
from corelane.model.config import ModelConfig, PackageConfig


def test_widths_default_to_those_of_the_net() -> None:
    """Left out, `hidden` is [256, 256] for an mlp and [128] for a cnn; given, it is taken, even empty."""
    assert ModelConfig(net="mlp").widths == (256, 256)
    assert ModelConfig(net="cnn").widths == (128,)
    assert ModelConfig(net="cnn", hidden=[]).widths == ()


def test_a_preset_is_the_options_it_stands_for() -> None:
    """`preset: resnet-8` names the network and its sizes, also when it is read back; other options are added."""
    config = ModelConfig.model_validate({"preset": "resnet-8", "dropout": 0.1})
    assert (config.net, config.depths, config.blocks, config.dropout) == ("resnet", (16, 32, 64), 1, 0.1)
    assert ModelConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_networks_defaults_are_its_own() -> None:
    """What is left out is each network's default; the embedding is narrower for many numbers."""
    assert (ModelConfig(net="cnn").depths, ModelConfig(net="resnet").depths) == ((32, 64), (16, 32, 64))
    assert (ModelConfig(net="gru").num_features, ModelConfig(net="gru").num_layers) == (64, 1)
    assert [ModelConfig(net="tabm").embedding_for(count) for count in (0, 8, 128, 4096)] == [16, 16, 2, 2]
    assert ModelConfig(net="tabm", embedding=0).embedding_for(8) == 0


def test_import_path_takes_arguments() -> None:
    """A user's class is named `package.module:Class` and gets keyword arguments."""
    config = ModelConfig(net="mine.nets:Tiny", arguments={"width": 3})
    assert config.arguments == {"width": 3}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"net": "resnext"}, "transformer, gru or package.module:Class, got 'resnext'"),
        ({"net": "mine.nets:"}, "net must be one of auto, mlp, cnn, resnet, tabm, transformer, gru or package"),
        ({"net": "../evil:Class"}, "or package.module:Class"),
        ({"net": "auto", "arguments": {"a": 1}}, "arguments must be left out for the network auto"),
        ({"net": "resnet", "hidden": [8]}, "hidden must be left out for the network resnet"),
        ({"net": "tabm", "hidden": []}, "hidden must have at least one width for the network tabm"),
        ({"net": "transformer", "width": 30}, "heads must divide the width 30, got 4"),
        ({"preset": "resnet-50"}, "preset"),
        ({"preset": "resnet-8", "net": "cnn"}, "net must be left out with the preset resnet-8, got 'cnn'"),
        ({"preset": "resnet-8", "channels": [8]}, "channels must be left out with the preset resnet-8, got [8]"),
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


def test_a_dump_names_what_the_network_reads() -> None:
    """A run's configuration has no options of other networks, whose defaults may change; it reads back as it was."""
    config = ModelConfig(net="cnn", dropout=0.1)
    dumped = config.model_dump(mode="json")
    assert dumped == {"net": "cnn", "hidden": None, "channels": None, "dropout": 0.1, "batch_norm": False}
    assert ModelConfig(**dumped) == config
    assert ModelConfig(net="auto").model_dump().keys() == ModelConfig.model_fields.keys()
