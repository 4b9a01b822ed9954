"""Which network fits the data where the configuration names none: a pure function of the pipeline's outputs.

Called by `nets/build.py` and by whoever writes down which network a run or package has. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from corelane.core.errors import ConfigError
from corelane.data.pipeline import TensorSpec
from corelane.model.config import AUTO, BUILT_IN, ModelConfig

WIDEST_TABLE = 512  # columns; what is wider is most often a picture or a spectrum, whose numbers want no bins
_SMALLEST_SIDE = 4  # pixels: what the default cnn halves twice


def resolved(config: ModelConfig, inputs: Mapping[str, TensorSpec]) -> ModelConfig:
    """`config` with the network named that `inputs` get.

    Raises `ConfigError` when `auto` chooses one that does not read an option that was given.
    """
    if config.net != AUTO:
        return config
    net, reason = choose_net(inputs)
    for name, value in config.given.items():
        if name not in BUILT_IN[net]:
            raise ConfigError(
                f"model.{name} must be left out for the network {net}, which auto chose for {reason}, got {value!r}; "
                "name another with model.net"
            )
    return ModelConfig(net=net, **config.given)


def choose_net(inputs: Mapping[str, TensorSpec]) -> tuple[str, str]:
    """The network for `inputs`, and what it is that it was chosen for, in words."""
    if len(inputs) > 1:
        return "mlp", "inputs of several kinds"
    (name, spec), *_ = inputs.items()
    if spec.vocabulary is not None:
        return "transformer", "tokens"
    if len(spec.shape) == 3 and min(spec.shape[1:]) >= _SMALLEST_SIDE:
        return "cnn", "an image"
    if len(spec.shape) == 2:
        return "gru", "a series"
    if name == "features" and spec.shape[0] <= WIDEST_TABLE:
        return "tabm", "a table"
    return "mlp", "inputs of this shape"
