"""What a user may say about the network and its package: the roots `model` and `package` of the configuration.

Only the words and their bounds are here; `nets/build.py` makes the network, `package.py` the package. No torch.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, model_validator

from corelane.core.config import Section

BUILT_IN: dict[str, frozenset[str]] = {
    "mlp": frozenset({"hidden", "dropout"}),
    "cnn": frozenset({"hidden", "channels", "dropout", "batch_norm"}),
}
"""The networks that come with Corelane, and which options each of them reads."""

DEFAULT_HIDDEN: dict[str, tuple[int, ...]] = {"mlp": (256, 256), "cnn": (128,)}

_IMPORT_PATH = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")

Width = Annotated[int, Field(ge=1, le=65536)]


class ModelConfig(Section):
    """The network: one of `BUILT_IN`, or the import path `package.module:Class` of a `torch.nn.Module`."""

    net: str = Field(
        default="mlp", description="mlp, cnn, or the import path package.module:Class of a torch.nn.Module"
    )
    hidden: list[Width] | None = Field(
        default=None, description="widths of the linear layers before the output; left out: mlp [256, 256], cnn [128]"
    )
    channels: list[Width] = Field(default=[32, 64], min_length=1, description="cnn: channels of each convolution block")
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="fraction of activations dropped before each later layer"
    )
    batch_norm: bool = Field(default=False, description="cnn: normalise each convolution's output over the batch")
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments for a network given by import path")

    @model_validator(mode="after")
    def _options_fit_the_net(self) -> ModelConfig:
        if self.net not in BUILT_IN and not _IMPORT_PATH.match(self.net):
            raise ValueError(f"net must be mlp, cnn or package.module:Class, got {self.net!r}")
        read = BUILT_IN.get(self.net, frozenset({"arguments"})) | {"net"}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in read and value != field.default:
                raise ValueError(f"{name} must be left out for the network {self.net}, got {value!r}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of the linear layers of a built-in network, its default where `hidden` is left out."""
        return DEFAULT_HIDDEN[self.net] if self.hidden is None else tuple(self.hidden)


class PackageConfig(Section):
    """Where packages are published, and whether they carry rows of the data."""

    include_rows: bool = Field(
        default=True,
        description="store golden, calibration and hold-out rows in the package; false keeps data out of it",
    )
    directory: str = Field(default="packages", min_length=1, description="folder that gets <name>/<version>/")
