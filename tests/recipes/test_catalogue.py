"""A recipe is complete, valid, and copied without touching anything that was there before."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from corelane.app.config import load_root
from corelane.core.errors import ConfigError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.recipes.catalogue import CONFIG_NAME, RECIPES, copy_recipe

NAMES = [recipe.name for recipe in RECIPES]


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_the_catalogue_lists_every_file_of_a_recipe(recipe):
    """What lies in a recipe's folder is what is copied, the configuration first."""
    present = {str(path.relative_to(recipe.folder)) for path in recipe.folder.rglob("*") if path.is_file()}
    assert present == set(recipe.files)
    assert recipe.files[0] == CONFIG_NAME


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_recipe_is_a_valid_project(name, tmp_path):
    """The copy's configuration is valid as it is, and paths in it that are relative start at the copy's folder."""
    project = tmp_path / "deep" / "project"
    written = copy_recipe(name, project)
    assert written[0] == project / CONFIG_NAME
    config = load_root(project / CONFIG_NAME)
    source = yaml.safe_load((project / CONFIG_NAME).read_text())["data"]["source"]
    assert config.data is not None
    assert config.data.source.path == str(project / source["path"])


@pytest.mark.parametrize("name", ["digits", "penguins"])
def test_bundled_data_is_where_the_configuration_says(name, tmp_path):
    """A recipe that brings its data can be trained on as copied."""
    copy_recipe(name, tmp_path)
    source = load_root(tmp_path / CONFIG_NAME).data.source
    assert Path(source.path).is_file()
    assert source.labels is None or Path(source.labels).is_file()


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_recipes_that_are_about_data_cite_it(recipe):
    """Data comes with its licence and citation."""
    if recipe.name == "tabular":
        assert "DATA.md" not in recipe.files
    else:
        text = (recipe.folder / "DATA.md").read_text()
        assert "Licence:" in text
        assert "Citation" in text


def test_an_unknown_recipe_is_told_with_the_nearest_name(tmp_path):
    """The error names what was asked, what there is, and the nearest."""
    with pytest.raises(ConfigError, match=r"got 'digts'; did you mean 'digits'\?"):
        copy_recipe("digts", tmp_path / "new")
    with pytest.raises(ConfigError, match=r"must be one of digits, penguins, fashion-mnist, tabular, got 'zzz'"):
        copy_recipe("zzz", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_that_exists_is_overwritten(tmp_path):
    """One file in the way refuses the whole copy before anything is written."""
    mine = tmp_path / "data" / "labels-idx1-ubyte.gz"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(ConfigError, match=r"must not exist yet, got .*labels-idx1-ubyte\.gz"):
        copy_recipe("digits", tmp_path)
    assert mine.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_broken_link_in_the_way_is_not_written_through(tmp_path):
    """A symbolic link to nowhere counts as existing: writing through it would make a file elsewhere."""
    (tmp_path / CONFIG_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="must not exist yet"):
        copy_recipe("tabular", tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_destination_that_is_a_file_is_refused(tmp_path):
    """A file where the project folder should be is one clear error."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="the project folder must be writable, got"):
        copy_recipe("tabular", tmp_path / "taken")


def test_digits_are_the_uci_images(tmp_path):
    """1,797 images of 8x8 pixels from 0 to 16; ten classes of about 180; the first ten are the digits in order."""
    copy_recipe("digits", tmp_path)
    source = load_root(tmp_path / CONFIG_NAME).data.source
    batches = [batch.rows for batch in FileSystemSource(source).batches()]
    images = np.concatenate([rows.column("image").to_numpy_ndarray() for rows in batches])
    labels = np.concatenate([rows.column("label").to_numpy() for rows in batches])
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max(), int(images.sum(dtype=np.int64))) == (0, 16, 561718)
    assert labels[:10].tolist() == list(range(10))
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_penguins_keep_their_missing_values(tmp_path):
    """344 birds, of which two have no measurements and eleven no sex."""
    copy_recipe("penguins", tmp_path)
    rows = list(csv.DictReader((tmp_path / "data" / "penguins.csv").open()))
    missing = [name for row in rows for name, cell in row.items() if cell == ""]
    assert len(rows) == 344
    assert {name: missing.count(name) for name in set(missing)} == {
        "bill_length_mm": 2,
        "bill_depth_mm": 2,
        "flipper_length_mm": 2,
        "body_mass_g": 2,
        "sex": 11,
    }


@pytest.mark.needs("fashion-mnist")
def test_fashion_mnist_looks_where_the_debian_package_puts_it(tmp_path):
    """The configuration's four paths exist once the package named in DATA.md is installed."""
    copy_recipe("fashion-mnist", tmp_path)
    data = load_root(tmp_path / CONFIG_NAME).data
    for source in (data.source, data.test):
        assert isinstance(source, FileSystemConfig)
        assert Path(source.path).is_file()
        assert Path(source.labels).is_file()
