"""The registry that a server follows, from its configuration; and where the plans of its packages are.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from corelane.app.config import RootConfig, cache_directory
from corelane.app.planned import plan_facts
from corelane.app.source_places import expand
from corelane.core.errors import ConfigError
from corelane.machine.cpu import Machine
from corelane.serve.origin import Followed
from corelane.serve.planned import PlanPlace
from corelane.store.places.opening import is_url
from corelane.store.plan_cache import FOLDER


@contextmanager
def following(
    registry: Path | str | None, models: Sequence[str], root: RootConfig, folder: Path, plans: PlanPlace
) -> Iterator[Followed | None]:
    """The registry, `models` of it, and a folder for copies as long as the context lasts; None where there is none.

    `plans` says where those of its packages are. `registry` stands in for the configured one, which is relative to
    `folder`. Raises `ConfigError` for models without a registry, and for a variable that is not set.
    """
    url = registry if registry is not None else _configured(root, folder)
    if url is None:
        if models:
            raise ConfigError(f"a registry must be given for {models[0]!r}, got none; name it with --registry")
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="corelane-models-") as copies:
        yield Followed(
            url=_absolute(str(url)),
            options=registry_options(root.serve.registry_options),
            models=tuple(models),
            copies=Path(copies).resolve(),
            plans=plans,
        )


def registry_options(configured: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a registry's driver, `${NAME}` read from the environment. Raises `ConfigError`."""
    options: dict[str, Any] = expand(dict(configured), os.environ, "serve.registry_options")
    return options


def plan_place(root: RootConfig, machine: Machine, unplanned: Path | None) -> PlanPlace:
    """Where the plans of packages are, for latency, and where to tell of packages without one (`unplanned`); nowhere,
    where they are run safely.
    """
    if root.serve.plan == "safe":
        return PlanPlace()
    return PlanPlace(
        folder=cache_directory(root).absolute() / FOLDER,
        facts=plan_facts("latency", machine),
        threads=max(1, machine.budget(root.machine).threads // root.serve.workers),
        unplanned=unplanned,
    )


def _configured(root: RootConfig, folder: Path) -> str | None:
    url = root.serve.registry
    return url if url is None or is_url(url) else str(folder / url)


def _absolute(url: str) -> str:
    return url if is_url(url) else str(Path(url).absolute())
