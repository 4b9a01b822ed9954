"""The configuration loader is strict, and its errors name the line, the key and the nearest known name."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from corelane.core.config import (
    MAX_CONFIG_BYTES,
    Bytes,
    Section,
    dump_config,
    load_config,
    parse_config,
    validate_config,
)
from corelane.core.errors import ConfigError


class Files(Section):
    type: Literal["files"] = "files"
    path: str = "data.csv"


class Table(Section):
    type: Literal["table"] = "table"
    rows: int = Field(default=1, ge=1)


class Root(Section):
    rate: float = Field(default=1e-3, gt=0)
    size: Bytes = 1
    source: Annotated[Files | Table, Field(discriminator="type")] = Files()


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("512", 512), ("512MiB", 512 << 20), ("1.5 GB", 1_500_000_000), ("2Ki", 2048), ("3B", 3)],
)
def test_sizes_are_read_with_units(text: str, bytes_: int) -> None:
    """A size may be written the way people write it."""
    assert parse_config(f"size: {text}", Root).size == bytes_


def test_overrides_win_and_reach_into_sections() -> None:
    """`--set a.b=c` is YAML on the right and a dotted path on the left."""
    config = parse_config("source: {type: files}", Root, ["source.type=table", "source.rows=3", "rate=1e-2"])
    assert config == Root(rate=0.01, source=Table(rows=3))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rate: 1\nratee: 2", ["c.yaml:2", "ratee", "did you mean 'rate'"]),
        ("rate: 1\n\nrate: 2", ["c.yaml:3", "unique", "'rate'"]),
        ("source:\n  type: table\n  row: 3", ["c.yaml:3", "source.row", "did you mean 'rows'"]),
        ("source:\n  type: tabel", ["c.yaml:1", "source.type", "'files', 'table'", "'tabel'"]),
        ("rate: -1", ["c.yaml:1", "rate must be greater than 0, got -1"]),
        ("rate: abc", ["c.yaml:1", "rate must be", "'abc'"]),
        ("size: 3x", ["c.yaml:1", "512MiB", "'3x'"]),
        ("rate: [", ["c.yaml:1", "must be YAML"]),
        ("- a", ["c.yaml:1", "must hold sections"]),
        ("a: &x 1\nb: *x", ["aliases"]),
        ("rate: 2020-13-45", ["c.yaml:1", "plain value"]),
        ("rate: !!python/name:os.system x", ["c.yaml:1"]),
        ("[" * 100, ["c.yaml"]),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, parts: list[str]) -> None:
    """One line says where, what must be, what was got and what to do."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, Root, name="c.yaml")
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("override", ["rate", "=3", "rate.=1", "rate=[", "rate.inner=1"])
def test_a_malformed_override_is_refused(override: str) -> None:
    """An override that cannot be applied is an error, not a silent no-op."""
    with pytest.raises(ConfigError, match=r"--set|rate"):
        parse_config("rate: 1", Root, [override])


def test_files_are_bounded_and_must_exist(tmp_path: Path) -> None:
    """A missing, binary or huge file is refused before it is parsed."""
    with pytest.raises(ConfigError, match="corelane init"):
        load_config(tmp_path / "absent.yaml", Root)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(binary, Root)
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b" " * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="at most"):
        load_config(huge, Root)


def test_a_dumped_configuration_reads_back_equal() -> None:
    """The resolved configuration in a run directory is a configuration again."""
    config = Root(rate=0.25, size=7, source=Table(rows=9))
    assert parse_config(dump_config(config), Root) == config


def test_a_dict_is_validated_like_a_file() -> None:
    """Python callers get the same strictness without line numbers."""
    with pytest.raises(ConfigError, match="did you mean 'rate'"):
        validate_config({"rat": 1}, Root)
