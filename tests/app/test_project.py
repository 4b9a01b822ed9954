"""`corelane init` makes a folder that trains; it fills in what the user named and overwrites nothing."""

from pathlib import Path

import pytest

from corelane.app.config import data_section, load_root
from corelane.app.project import create
from corelane.core.errors import ConfigError
from corelane.data.config import FileSystemConfig
from corelane.recipes.catalogue import RECIPES


@pytest.mark.parametrize("recipe", [recipe.name for recipe in RECIPES])
def test_every_template_is_a_valid_configuration(tmp_path: Path, recipe: str) -> None:
    """A fresh project loads without an edit."""
    made = create(tmp_path / "project", recipe)
    assert data_section(load_root(Path(made["config"]))).target


def test_data_and_target_are_filled_in(tmp_path: Path) -> None:
    """The user's file and column stand in the configuration, whatever characters they have."""
    data = tmp_path / "it's: #1.csv"
    data.write_text("a,b\n1,2\n")
    made = create(tmp_path / "My Project", "tabular", data=data, target="it's: b")
    root = load_root(Path(made["config"]))
    section = data_section(root)
    assert root.name == "my-project"
    assert section.target == "it's: b"
    assert isinstance(section.source, FileSystemConfig)
    assert section.source.path == str(data)


def test_existing_files_stay(tmp_path: Path) -> None:
    """A second init in the same folder changes nothing."""
    made = create(tmp_path, "tabular")
    before = Path(made["config"]).read_bytes()
    with pytest.raises(ConfigError):
        create(tmp_path, "penguins")
    assert Path(made["config"]).read_bytes() == before


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Data and target belong to the tabular template; data must exist; templates are known by name."""
    with pytest.raises(ConfigError, match="tabular"):
        create(tmp_path / "a", "digits", target="x")
    with pytest.raises(ConfigError, match=r"absent\.csv"):
        create(tmp_path / "b", "tabular", data=tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match="digits"):
        create(tmp_path / "c", "digit")
