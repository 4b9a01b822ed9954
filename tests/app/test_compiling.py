"""The folder of what is compiled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corelane.app.compiling import VARIABLE, compile_cache
from corelane.app.config import from_values


def test_compiled_code_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder has mode 0700 even where it was open before; the environment is as it was afterwards."""
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "inductor").mkdir(mode=0o755)
    with compile_cache(from_values({"name": "a", "machine": {"cache": str(tmp_path)}}, base=Path())):
        folder = Path(os.environ[VARIABLE])
    assert folder == tmp_path / "inductor"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert VARIABLE not in os.environ


def test_a_place_that_is_named_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a folder in the environment keeps it."""
    monkeypatch.setenv(VARIABLE, "elsewhere")
    with compile_cache(from_values({"name": "a", "machine": {"cache": str(tmp_path)}}, base=Path())):
        assert os.environ[VARIABLE] == "elsewhere"
    assert not (tmp_path / "inductor").exists()
