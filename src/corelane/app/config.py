"""The root configuration: one section a room, joined; and where the relative paths in it start.

Rooms declare their sections; this module only puts them under one root, reads files, and makes paths absolute, so that
a run directory's `config.yaml` means the same wherever it is read from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from corelane.app.source_places import absolute
from corelane.core.config import Section, dump_config, load_config, validate_config
from corelane.core.errors import ConfigError
from corelane.data.config import DataConfig, PipelineConfig
from corelane.machine.config import MachineConfig
from corelane.model.config import ModelConfig, PackageConfig
from corelane.observe.config import ObserveConfig
from corelane.serve.config import ServeConfig
from corelane.train.config import WITHOUT_EFFECT, TrainConfig

SPIN_COUNT = 10_000  # about 0.1 ms: longer than the gap between two operators of a small net
PLAN_MODES = ("auto", "eager")
POOL_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
TRAINING_SECTIONS = ("data", "pipeline", "model", "train")


class RootConfig(Section):
    """Everything a project configures. Only `name` and, for training, `data` have no default."""

    version: Literal[1] = Field(default=1, description="Version of this file's format.")
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Name of runs and packages: lower-case letters, digits, - and _, at most 63.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of the split, the order, the weights and dropout.")
    data: DataConfig | None = Field(default=None, description="Where rows come from and what they are.")
    pipeline: PipelineConfig = PipelineConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    package: PackageConfig = PackageConfig()
    serve: ServeConfig = ServeConfig()
    observe: ObserveConfig = ObserveConfig()
    machine: MachineConfig = MachineConfig()


def load_root(path: Path, overrides: Sequence[str] = ()) -> RootConfig:
    """Read and validate the configuration at `path`; paths in it become absolute, starting at its folder."""
    return resolved(load_config(path, RootConfig, overrides), base=path.resolve().parent)


def from_values(values: Mapping[str, Any], base: Path) -> RootConfig:
    """Validate nested `values` (the Python form of the file); relative paths start at `base`."""
    return resolved(validate_config(values, RootConfig), base=base.resolve())


def resolved(config: RootConfig, base: Path) -> RootConfig:
    """`config` with its paths absolute."""
    if config.train.fine_tune is not None:
        start = config.train.fine_tune.model_copy(update={"package": str(base / config.train.fine_tune.package)})
        config = config.model_copy(update={"train": config.train.model_copy(update={"fine_tune": start})})
    if config.machine.plan not in PLAN_MODES:
        machine = config.machine.model_copy(update={"plan": str(base / config.machine.plan)})
        config = config.model_copy(update={"machine": machine})
    if config.data is None:
        return config
    data = config.data.model_copy(
        update={"source": absolute(config.data.source, base), "test": absolute(config.data.test, base)}
    )
    return config.model_copy(update={"data": data})


def data_section(config: RootConfig) -> DataConfig:
    """The `data` section. Raises `ConfigError` where training needs it and it is absent."""
    if config.data is None:
        raise ConfigError("data must be given to train, got no data section; add data.source and data.target")
    return config.data


def cache_directory(config: RootConfig | None = None) -> Path:
    """Where prepared data and plans are kept: `machine.cache`, or the user's cache folder (XDG Base Directory
    Specification)."""
    if config is not None and config.machine.cache is not None:
        return Path(config.machine.cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corelane"


def spin_setting(planned: Mapping[str, str] | None = None) -> list[str]:
    """The start of a command line that bounds how long the OpenMP threads of a trainer spin at their barriers.

    libgomp's default spins for milliseconds: on a machine that does something else too, each barrier then waits for a
    thread that is not running, and training was measured to fall to a tenth and less (docs/LOG.md). What the user has
    set stays; else a run that has a plan goes on with what that was `planned` under.
    """
    if pool_settings():
        return []
    settings = planned or {"GOMP_SPINCOUNT": str(SPIN_COUNT)}
    return ["/usr/bin/env", *(f"{name}={settings[name]}" for name in POOL_SETTINGS if name in settings)]


def pool_settings() -> dict[str, str]:
    """How this process's OpenMP threads wait, as far as its environment says: a plan holds for the same settings."""
    return {name: os.environ[name] for name in POOL_SETTINGS if name in os.environ}


def first_change(before: RootConfig, after: RootConfig) -> str | None:
    """The dotted key of the first difference that would change a training run, or None. Other sections may differ."""
    free = {f"train.{key}" for key in WITHOUT_EFFECT}
    pairs = [({"seed": before.seed}, {"seed": after.seed})]
    pairs += [(_flat(getattr(before, name), name), _flat(getattr(after, name), name)) for name in TRAINING_SECTIONS]
    for old, new in pairs:
        for key in old | new:
            if old.get(key) != new.get(key) and key not in free:
                return key
    return None


def _flat(section: Section | None, name: str) -> dict[str, Any]:
    values: dict[str, Any] = {name: section.model_dump(mode="json") if section is not None else None}
    while nested := [key for key, value in values.items() if isinstance(value, dict)]:
        for key in nested:
            values.update({f"{key}.{inner}": value for inner, value in values.pop(key).items()})
    return values


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration file."""
    return RootConfig.model_json_schema()


def dump(config: RootConfig) -> str:
    """The configuration as YAML."""
    return dump_config(config)
