"""The root configuration: one schema for all rooms, and paths that mean the same wherever it is read from."""

from pathlib import Path

import pytest

from corelane.app.config import (
    POOL_SETTINGS,
    RootConfig,
    cache_directory,
    data_section,
    dump,
    first_change,
    from_values,
    json_schema,
    load_root,
    pool_settings,
    spin_setting,
)
from corelane.core.config import parse_config
from corelane.core.errors import ConfigError
from corelane.data.config import FileSystemConfig


def test_the_roots_are_the_documented_ones() -> None:
    """A configuration has these sections and no other."""
    assert set(RootConfig.model_fields) == {
        *("version", "name", "seed", "data", "pipeline", "model", "train", "package", "serve", "observe", "machine"),
    }
    assert set(json_schema()["properties"]) == set(RootConfig.model_fields)


def test_data_paths_start_at_the_configuration(tmp_path: Path) -> None:
    """A relative path counts from the configuration's folder, not from where the command was typed."""
    path = tmp_path / "config.yaml"
    path.write_text("name: a\ndata:\n  source: {type: filesystem, path: rows.csv}\n  target: y\n")
    source = data_section(load_root(path)).source
    assert isinstance(source, FileSystemConfig)
    assert source.path == str(tmp_path / "rows.csv")


def test_a_dumped_root_reads_back_equal(tmp_path: Path) -> None:
    """What a run directory holds is the configuration that ran."""
    values = {"name": "a", "seed": 3, "data": {"source": {"type": "filesystem", "path": "rows.csv"}, "target": "y"}}
    root = from_values(values, base=tmp_path)
    assert parse_config(dump(root), RootConfig) == root


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"serve": {"host": "192.0.2.1"}}, r": serve\.host must be a loopback address"),
        ({"serve": {"tls_key": "key.pem"}}, r": serve\.tls_certificate and tls_key must be given together"),
        ({"serve": {"slo": "p99=soon"}}, r": serve\.slo must be like p99=20ms"),
        ({"serve": {"management_port": 70000}}, r": serve\.management_port must be main or a port"),
        ({"model": {"net": "mlp", "hidden": [0]}}, r": model\.hidden\.0 must be greater than or equal to 1"),
    ],
)
def test_a_refused_value_is_named_with_its_section_and_once(section: dict[str, object], message: str) -> None:
    """Whether it is refused alone, or by what its section checks as a whole."""
    with pytest.raises(ConfigError, match=message):
        from_values({"name": "a", **section}, base=Path())


@pytest.mark.parametrize("name", ["", "Über", "../up", "a/b", "-a", "a" * 64])
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    """A name becomes a folder and a URL, so it is plain and bounded."""
    with pytest.raises(ConfigError, match="name"):
        from_values({"name": name}, base=Path())


def test_training_without_data_is_refused() -> None:
    """The data section may be absent for serving, not for training."""
    with pytest.raises(ConfigError, match=r"data\.source"):
        data_section(from_values({"name": "a"}, base=Path()))


def test_the_cache_follows_the_configuration_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`machine.cache` wins over XDG_CACHE_HOME."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory(from_values({"name": "a"}, base=Path())) == tmp_path / "corelane"
    assert cache_directory(from_values({"name": "a", "machine": {"cache": "/c"}}, base=Path())) == Path("/c")


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"train": {"epochs": 7}}, "train.epochs"),
        ({"data": {"source": {"type": "filesystem", "path": "b.csv"}, "target": "y"}}, "data.source.path"),
        ({"seed": 4}, "seed"),
        ({"model": {"hidden": [3]}}, "model.hidden"),
        ({"serve": {"port": 9}}, None),
        ({"train": {"save_interval": 7, "keep_checkpoints": 9, "max_retries": 1}}, None),
    ],
)
def test_a_change_that_would_change_the_run_is_named(section: dict[str, object], key: str | None) -> None:
    """What decides the weights must be as it was; where a model is served may change."""
    values = {"name": "a", "data": {"source": {"type": "filesystem", "path": "a.csv"}, "target": "y"}}
    assert first_change(from_values(values, Path()), from_values({**values, **section}, Path())) == key


def test_the_trainers_threads_wait_as_its_plan_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours by default, the plan's where there is one, and before all what the user has set."""
    for name in POOL_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert spin_setting() == ["/usr/bin/env", "GOMP_SPINCOUNT=10000"]
    assert spin_setting({"GOMP_SPINCOUNT": "3000"}) == ["/usr/bin/env", "GOMP_SPINCOUNT=3000"]
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert spin_setting({"GOMP_SPINCOUNT": "3000"}) == []
    assert pool_settings() == {"OMP_WAIT_POLICY": "passive"}


def test_a_plans_file_starts_at_the_configuration(tmp_path: Path) -> None:
    """A relative path is taken from the configuration's folder; auto and eager are no files."""
    for given, expected in (("auto", "auto"), ("eager", "eager"), ("mine.json", str(tmp_path / "mine.json"))):
        assert from_values({"name": "x", "machine": {"plan": given}}, tmp_path).machine.plan == expected
