"""One door to all sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelane.core.errors import ConfigError
from corelane.data.config import FileSystemConfig
from corelane.data.manager import DataSourceManager


def test_rows_come_as_dicts_from_every_type(tmp_path: Path) -> None:
    """A mapping or a section, by type name, gives the rows."""
    (tmp_path / "rows.csv").write_text("a,b\n1,x\n2\n3,\n")
    manager = DataSourceManager()
    expected = [{"a": "1", "b": "x"}, {"a": "3", "b": None}]
    path = str(tmp_path / "rows.csv")
    assert list(manager.get_data_iterator("filesystem", {"path": path})) == expected
    assert list(manager.get_data_iterator("filesystem", FileSystemConfig(path=path))) == expected
    assert list(manager.get_data_iterator("memory", {"rows": expected})) == expected


def test_an_unknown_type_names_the_known() -> None:
    """A wrong type, and a wrong key of a right one, are told with what there is."""
    with pytest.raises(ConfigError, match="one of database, filesystem, http, memory, got 'ftp'"):
        DataSourceManager().get_data_iterator("ftp", {})
    with pytest.raises(ConfigError, match="did you mean 'path'"):
        DataSourceManager().get_data_iterator("filesystem", {"pth": "x"})
