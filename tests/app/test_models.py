"""`corelane models` on a real registry: what each command answers, and what a mistake is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from corelane.app.models import open_registry
from corelane.cli import cli
from corelane.core.errors import ConfigError
from tests.serve.packages import told_package


def _invoke(*arguments: str | Path) -> tuple[int, Any]:
    result = CliRunner().invoke(cli, ["models", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout)


def _text(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli, ["models", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def registry(tmp_path: Path) -> tuple[str, Path]:
    """The option that names a registry of two versions of m, the first of which is the champion."""
    home = tmp_path / "registry"
    for told in (1, 2):
        package = told_package(tmp_path / "packages", told)
        assert _invoke("publish", package, "--registry", home)[0] == 0
    assert _invoke("promote", "m", "1", "--registry", home)[0] == 0
    return "--registry", home


def test_the_way_of_a_version(registry: tuple[str, Path]) -> None:
    """Promoted, rolled back, set aside, deleted and taken back: each answer says what is so then."""
    assert _invoke("list", *registry)[1]["models"] == [{"name": "m", "versions": [1, 2], "aliases": {"champion": 1}}]
    code, answer = _invoke("promote", "m", "2", *registry)
    assert (code, answer["version"], answer["aliases"]) == (0, 2, {"champion": 2})
    assert _invoke("promote", "m", "1", "--alias", "challenger", *registry)[1]["aliases"]["challenger"] == 1
    assert _invoke("unset", "m", "challenger", *registry)[1]["aliases"] == {"champion": 2}
    assert _invoke("rollback", "m", *registry)[1]["aliases"] == {"champion": 1}
    assert _invoke("archive", "m", "2", *registry)[1]["archived_at_s"] > 0
    assert _invoke("promote", "m", "2", *registry)[0] == 2
    assert _invoke("restore", "m", "2", *registry)[1]["archived_at_s"] is None
    deleted = _invoke("delete", "m", "2", "--grace-days", "1", *registry)[1]
    assert deleted["removed_at_s"] > 86_400
    shown = _invoke("show", "m", *registry)[1]
    assert [(one["version"], one["named"]) for one in shown["versions"]] == [(2, []), (1, ["champion"])]
    assert shown["aliases"]["champion"]["before"] == []


def test_publishing_may_promote(registry: tuple[str, Path], tmp_path: Path) -> None:
    """A folder of versions stands for its newest; what is there already keeps its number."""
    code, answer = _invoke("publish", tmp_path / "packages" / "m", "--alias", "challenger", *registry)
    assert (code, answer["version"], answer["aliases"]) == (0, 2, {"champion": 1, "challenger": 2})


def test_the_answers_are_readable(registry: tuple[str, Path]) -> None:
    """Tables and facts on a terminal, and what an empty registry needs."""
    assert "champion 1" in _text("list", *registry)
    assert "before" not in _text("show", "m", *registry)
    assert "champion 2" in _text("promote", "m", "2", *registry)
    assert "champion: version 2 since 20" in _text("show", "m", *registry)
    assert ", before 1" in _text("show", "m", *registry)
    assert "to be removed from 20" in _text("delete", "m", "1", *registry)
    graph = registry[1] / "m" / "1" / "package.json"
    graph.write_text("{}")
    assert "BROKEN" in _text("show", "m", *registry)
    assert "has no models" in _text("list", "--registry", registry[1] / "empty")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "n"], "not_found", "n must be in the registry"),
        (["promote", "m", "9"], "not_found", "m version 9 must be in the registry"),
        (["promote", "m", "1", "--alias", "Best"], "config_invalid", "an alias must be"),
        (["rollback", "m"], "config_invalid", "must have named another version"),
        (["delete", "m", "1"], "config_invalid", "must have no alias to be deleted, got 1, which is champion"),
        (["archive", "m", "1"], "config_invalid", "must have no alias to be archived"),
        (["show", "../m"], "config_invalid", "a package's name must be"),
        (["publish", "absent"], "config_invalid", "must be a package"),
    ],
)
def test_a_mistake_is_told(registry: tuple[str, Path], arguments: list[str], code: str, says: str) -> None:
    """In one message with a code, and exit code 2."""
    status, answer = _invoke(*arguments, *registry)
    assert (status, answer["code"], says in answer["error"]) == (2, code, True)


def test_a_broken_record_is_told(registry: tuple[str, Path]) -> None:
    """With the file's name."""
    record = max((registry[1] / "m" / "record").iterdir())
    record.write_text("{")
    status, answer = _invoke("show", "m", *registry)
    assert (status, answer["code"], record.name in answer["error"]) == (2, "registry_broken", True)


def test_a_configuration_names_the_registry(
    registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside its own file, with what its driver needs from the environment; an option stands before it."""
    config = tmp_path / "config.yaml"
    config.write_text("name: a\nserve: {registry: registry, registry_options: {key: '${REGISTRY_KEY}'}}\n")
    with pytest.raises(ConfigError, match="REGISTRY_KEY must be set"):
        open_registry(None, config=config)
    monkeypatch.setenv("REGISTRY_KEY", "secret")
    assert open_registry(None, config=config).names() == ["m"]
    assert open_registry(str(tmp_path / "other"), config=config).names() == []


def test_without_a_registry_it_is_the_folder_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `corelane train` and `package` put theirs: it needs no publishing."""
    monkeypatch.chdir(tmp_path)
    told_package(tmp_path / "packages", 1)
    assert _invoke("promote", "m", "1")[1]["aliases"] == {"champion": 1}
