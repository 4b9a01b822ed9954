"""The list of recipes and how one becomes a project folder.

A recipe is a folder beside this file: a commented `config.yaml` whose data paths are relative to it, the data itself
where it is small and free to share, and a note about where the data comes from. Nothing here reads a configuration or
data: the command line copies a recipe, and `app` loads the copy like any other configuration.
"""

from __future__ import annotations

import difflib
import errno
from dataclasses import dataclass
from pathlib import Path

from corelane.core.errors import ConfigError, DiskFullError

CONFIG_NAME = "config.yaml"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe: its `name` on the command line, one line of `summary`, and its `files` relative to its folder."""

    name: str
    summary: str
    files: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the recipe lies in the installed package."""
        return Path(__file__).parent / self.name


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="digits",
        summary="1,797 handwritten digits of 8x8 pixels, bundled; a small convolutional network, under a minute",
        files=(CONFIG_NAME, "DATA.md", "data/images-idx3-ubyte.gz", "data/labels-idx1-ubyte.gz"),
    ),
    Recipe(
        name="penguins",
        summary="344 penguins with categories and missing values, bundled; predicts the species, a few seconds",
        files=(CONFIG_NAME, "DATA.md", "data/penguins.csv"),
    ),
    Recipe(
        name="fashion-mnist",
        summary="70,000 pictures of clothes, from a Debian package or your own folder; a few minutes of training",
        files=(CONFIG_NAME, "DATA.md"),
    ),
    Recipe(
        name="tabular",
        summary="a starting configuration for a CSV file of your own",
        files=(CONFIG_NAME,),
    ),
)


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises `ConfigError` with the nearest known name."""
    known = {recipe.name: recipe for recipe in RECIPES}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "choose one of these"
    raise ConfigError(f"the template must be one of {', '.join(known)}, got {name!r}; {hint}")


def copy_recipe(name: str, destination: Path) -> tuple[Path, ...]:
    """Copy the recipe `name` into the folder `destination` (made if absent); gives the files written, config first.

    Raises `ConfigError` for an unknown name, for a destination that cannot be written, and when a file of the recipe is
    already there, in which case nothing is written. Raises `DiskFullError` when the disk has no room.
    """
    recipe = find_recipe(name)
    targets = tuple(destination / file for file in recipe.files)
    for target in targets:
        if target.exists() or target.is_symlink():
            raise ConfigError(
                f"a new project's files must not exist yet, got {str(target)!r}; choose another folder or move it away"
            )
    try:
        for file, target in zip(recipe.files, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            # "x": a file that appeared since the check above is not overwritten either
            with target.open("xb") as stream:
                stream.write((recipe.folder / file).read_bytes())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{str(destination)!r} must have room for the recipe; free some space") from error
        reason = error.strerror or str(error)
        raise ConfigError(f"the project folder must be writable, got {str(destination)!r}: {reason}") from error
    return targets
