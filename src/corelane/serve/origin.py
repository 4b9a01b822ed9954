"""Where the packages of a served model come from: one that was named by its path, or a registry that says which.

What is asked here may block on a disk or a network: `Keeper` calls it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from corelane.core.config import Section
from corelane.core.errors import RequestError
from corelane.model.description import DESCRIPTION, read_description
from corelane.model.package import ModelPackage
from corelane.model.registry import Choice, ModelManager, Reference
from corelane.serve.planned import Planned, PlanPlace
from corelane.store.hold import hold, remove_unless_held

Release = Callable[[], None]
"""Called when a package is served no more."""


class Followed(Section):
    """The registry that a server follows: its URL and its driver's options, the references of its models, a folder for
    copies of packages that lie elsewhere, and where plans are."""

    url: str
    options: dict[str, Any] = Field(default_factory=dict)
    models: tuple[str, ...] = ()
    copies: Path
    plans: PlanPlace = PlanPlace()


def first_packages(followed: Followed) -> list[Path]:
    """What is served first of the models that are followed, as local directories. Raises as `ModelManager.choose`."""
    manager = ModelManager(followed.url, options=followed.options)
    choices = [manager.choose(Reference.parse(text)) for text in followed.models]
    return [manager.fetch(choice.name, choice.version, followed.copies) for choice in choices]


class Origin(Protocol):
    """Where a model's packages come from. `name` is the model's; `is_moving`: what is chosen may be another later."""

    name: str
    is_moving: bool

    def choose(self, label: str | None = None) -> Choice:
        """What should be served now, or what the alias or version `label` stands for.

        Raises as `ModelManager.choose`.
        """
        ...

    def fetch(self, version: int) -> tuple[Path, Release]:
        """The package as a local directory, and what is to be called when it is served no more."""
        ...

    def plan_of(self, model: ModelPackage) -> Planned:
        """How the package is run."""
        ...


class FixedPackage:
    """One package at a path."""

    is_moving = False

    def __init__(self, path: Path, plan: Planned) -> None:
        about = read_description(path / DESCRIPTION)
        self.name = about.name
        self._version = about.version
        self._path = path
        self._plan = plan

    def choose(self, label: str | None = None) -> Choice:
        """See `Origin.choose`."""
        if label not in (None, str(self._version)):
            raise RequestError(
                f"the version of {self.name} must be {self._version}, got {label!r:.40}; it is not from a registry"
            )
        return Choice(self.name, self._version)

    def fetch(self, version: int) -> tuple[Path, Release]:  # noqa: ARG002 - there is one
        """See `Origin.fetch`."""
        return self._path, _nothing

    def plan_of(self, model: ModelPackage) -> Planned:  # noqa: ARG002 - there is one
        """See `Origin.plan_of`."""
        return self._plan


class InRegistry:
    """A model of a registry, by its reference. Copies of packages are shared by the workers of a server."""

    def __init__(self, manager: ModelManager, reference: Reference, followed: Followed) -> None:
        self.name = reference.name
        self.is_moving = reference.version is None
        self._manager = manager
        self._reference = reference
        self._followed = followed

    def choose(self, label: str | None = None) -> Choice:
        """See `Origin.choose`."""
        reference = self._reference if label is None else Reference.parse(f"{self.name}@{label}")
        return self._manager.choose(reference)

    def fetch(self, version: int) -> tuple[Path, Release]:
        """See `Origin.fetch`. A copy is held, so that no sibling removes it; the last that releases it does."""
        path = self._manager.fetch(self.name, version, self._followed.copies)
        if path != self._followed.copies / self.name / str(version):
            return path, _nothing
        held = hold(path)

        def release() -> None:
            if held is not None:
                held.release()
            remove_unless_held(path)

        return path, release

    def plan_of(self, model: ModelPackage) -> Planned:
        """See `Origin.plan_of`."""
        return self._followed.plans.of(model.digest)


def _nothing() -> None:
    """There is nothing to give back."""
