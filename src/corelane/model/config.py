"""What a user may say about the network and its package: the roots `model` and `package` of the configuration.

Only the words and their bounds are here; `choose.py` picks the network where none is named, `nets/build.py` makes it,
`package.py` the package. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from corelane.core.config import Section

AUTO = "auto"

BUILT_IN: dict[str, frozenset[str]] = {
    "mlp": frozenset({"hidden", "dropout"}),
    "cnn": frozenset({"hidden", "channels", "dropout", "batch_norm"}),
    "resnet": frozenset({"preset", "channels", "blocks", "dropout"}),
    "tabm": frozenset({"hidden", "dropout", "members", "embedding", "bins"}),
    "transformer": frozenset({"width", "layers", "heads", "feed_forward", "dropout", "mask_padding"}),
    "gru": frozenset({"width", "layers", "dropout"}),
}
"""The networks that come with Corelane, and which options each of them reads."""

DEFAULT_HIDDEN: dict[str, tuple[int, ...]] = {"mlp": (256, 256), "cnn": (128,), "tabm": (256, 256)}
DEFAULT_CHANNELS: dict[str, tuple[int, ...]] = {"cnn": (32, 64), "resnet": (16, 32, 64)}
DEFAULT_WIDTH: dict[str, int] = {"transformer": 128, "gru": 64}
DEFAULT_LAYERS: dict[str, int] = {"transformer": 2, "gru": 1}

PRESETS: dict[str, dict[str, Any]] = {"resnet-8": {"net": "resnet", "channels": [16, 32, 64], "blocks": 1}}
"""Published networks by name, as the options that make them."""

_IMPORT_PATH = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
_NAMES = ", ".join([AUTO, *BUILT_IN])

Width = Annotated[int, Field(ge=1, le=65536)]
Depth = Annotated[int, Field(ge=1, le=64)]


class ModelConfig(Section):
    """The network: one of `BUILT_IN`, the one that fits the data (`auto`), or the import path `package.module:Class` of
    a `torch.nn.Module`.
    """

    net: str = Field(
        default=AUTO,
        description="auto: tabm for a table, cnn for an image, transformer for tokens, gru for a series, else mlp; or"
        " mlp, cnn, resnet, tabm, transformer, gru, or the import path package.module:Class of a torch.nn.Module",
    )
    preset: Literal["resnet-8"] | None = Field(
        default=None, description="A published network: resnet-8 is MLPerf Tiny's for 32x32 images"
    )
    hidden: list[Width] | None = Field(
        default=None,
        description="widths of the linear layers before the output; mlp [256, 256], tabm [256, 256], cnn [128]",
    )
    channels: list[Width] | None = Field(
        default=None,
        min_length=1,
        description="channels of each convolution block (cnn, [32, 64]) or stage (resnet, [16, 32, 64])",
    )
    blocks: Depth = Field(default=1, description="resnet: residual blocks of each stage")
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="fraction of activations dropped before each later layer"
    )
    batch_norm: bool = Field(default=False, description="cnn: normalise each convolution's output over the batch")
    members: int = Field(default=8, ge=1, le=256, description="tabm: how many networks answer together")
    embedding: int | None = Field(
        default=None,
        ge=0,
        le=256,
        description="tabm: numbers that stand for each number of a row, 16, fewer where there are many; 0: itself",
    )
    bins: int = Field(default=48, ge=1, le=1024, description="tabm: pieces of each number's piecewise-linear encoding")
    width: Width | None = Field(default=None, description="numbers per position: transformer 128, gru 64")
    layers: Depth | None = Field(default=None, description="transformer 2, gru 1")
    heads: int = Field(default=4, ge=1, le=256, description="transformer: attention heads; they divide the width")
    feed_forward: Width = Field(default=512, description="transformer: width of the layer within each block")
    mask_padding: bool = Field(
        default=False, description="transformer: token 0 fills up short rows and is attended to by none"
    )
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments for a network given by import path")

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        name = values.get("preset") if isinstance(values, Mapping) else None
        if not isinstance(name, str) or name not in PRESETS:
            return values  # nothing to expand, or pydantic says what is wrong
        for option, value in PRESETS[name].items():
            given = values.get(option, value)
            if given != value and not (option == "net" and given == AUTO):
                raise ValueError(f"{option} must be left out with the preset {name}, got {given!r}")
        return {**values, **PRESETS[name]}

    @model_serializer(mode="wrap")
    def _without_what_is_not_read(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run's configuration must not name options of other networks, whose defaults may be others one day."""
        values: dict[str, Any] = serialise(self)
        unread = set().union(*BUILT_IN.values(), {"arguments"}) - BUILT_IN.get(self.net, frozenset({"arguments"}))
        return values if self.net == AUTO else {name: values[name] for name in values if name not in unread}

    @model_validator(mode="after")
    def _options_fit_the_net(self) -> ModelConfig:
        if self.net == AUTO:
            if self.arguments:
                raise ValueError(f"arguments must be left out for the network auto, got {self.arguments!r}")
            return self  # `choose.py` looks at the others when it has chosen
        if self.net not in BUILT_IN and not _IMPORT_PATH.match(self.net):
            raise ValueError(f"net must be one of {_NAMES} or package.module:Class, got {self.net!r}")
        read = BUILT_IN.get(self.net, frozenset({"arguments"}))
        for name, value in self.given.items():
            if name not in read:
                raise ValueError(f"{name} must be left out for the network {self.net}, got {value!r}")
        self._check_shape()
        return self

    def embedding_for(self, num_numbers: int) -> int:
        """The width of the embedding of `num_numbers` numbers, where `embedding` is left out bounded for all together.

        16 as in the paper. All of a row together are as wide as a hidden layer, 256, so that the first layer is no more
        work than the second; beyond 128 numbers it is, since each keeps 2.
        """
        return min(16, max(2, 256 // max(num_numbers, 1))) if self.embedding is None else self.embedding

    def _check_shape(self) -> None:
        if self.net == "tabm" and not self.widths:
            raise ValueError("hidden must have at least one width for the network tabm, got none")
        if self.net == "transformer" and self.num_features % self.heads:
            raise ValueError(f"heads must divide the width {self.num_features}, got {self.heads}")

    @property
    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in fields if name != "net"}
        return {name: value for name, value in values.items() if value != fields[name].default}

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of the linear layers of a built-in network, its default where `hidden` is left out."""
        return DEFAULT_HIDDEN[self.net] if self.hidden is None else tuple(self.hidden)

    @property
    def depths(self) -> tuple[int, ...]:
        """The channels of each block or stage, the network's default where `channels` is left out."""
        return DEFAULT_CHANNELS[self.net] if self.channels is None else tuple(self.channels)

    @property
    def num_features(self) -> int:
        """Numbers per position, the network's default where `width` is left out."""
        return DEFAULT_WIDTH[self.net] if self.width is None else self.width

    @property
    def num_layers(self) -> int:
        """Layers over the positions, the network's default where `layers` is left out."""
        return DEFAULT_LAYERS[self.net] if self.layers is None else self.layers


class PackageConfig(Section):
    """Where packages are published, and whether they carry rows of the data."""

    include_rows: bool = Field(
        default=True,
        description="store golden, calibration and hold-out rows in the package; false keeps data out of it",
    )
    directory: str = Field(default="packages", min_length=1, description="folder that gets <name>/<version>/")
