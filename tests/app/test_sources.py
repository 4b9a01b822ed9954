"""Sources as a configuration names them: secrets from the environment, paths from the file's folder, the class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corelane.app.source_places import absolute
from corelane.app.sources import open_source, source_of
from corelane.core.errors import ConfigError, SourceReadError
from corelane.data.config import DatabaseConfig, FileSystemConfig, HTTPConfig, MemoryConfig
from tests.faults.http_server import Content, FaultServer, reply


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a URL and in headers; the server sees the value, and what is told of the source does not hold it."""
    monkeypatch.setenv("TEST_TOKEN", "geheim")
    told: list[Any] = []
    with FaultServer() as server:
        config = HTTPConfig(
            url=server.url + "/rows.csv?key=${TEST_TOKEN}",
            headers={"X-Key": "a ${TEST_TOKEN} b"},
            allow_http=True,
            allow_private=["127.0.0.1"],
            max_retries=1,
        )
        server.script = [reply(status=500)] * 2
        with pytest.raises(SourceReadError) as caught:
            open_source(config, tell=lambda event, fields: told.append((event, dict(fields)))).schema()
        server.routes["/rows.csv"] = Content(b"a\n1\n")
        assert open_source(config).schema().names == ["a"]
        assert server.asked[0].path == "/rows.csv?key=geheim"
        assert server.asked[0].headers["x-key"] == "a geheim b"
    assert told
    assert "geheim" not in f"{caught.value}{caught.value.detail}{told}{config}"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key that uses it; before anything is connected to."""
    monkeypatch.delenv("TEST_TOKEN", raising=False)
    url = DatabaseConfig(url="postgresql://u:${TEST_TOKEN}@127.0.0.1:1/x", table="t")
    options = FileSystemConfig(path="s3://b/x", storage_options={"client_kwargs": {"a": "${TEST_TOKEN}"}})
    for config, key in ((url, "url"), (options, "storage_options.client_kwargs.a")):
        with pytest.raises(ConfigError, match=rf"variable TEST_TOKEN must be set, data\.source\.{key} uses it"):
            open_source(config)


def test_paths_begin_at_the_configurations_folder() -> None:
    """Those of files, of SQLite and of certificates; URLs and absolute paths stay."""
    base = Path("/base")
    files = absolute(FileSystemConfig(path="a/*.csv", labels="l", root="."), base)
    assert isinstance(files, FileSystemConfig)
    assert (files.path, files.labels, files.root) == ("/base/a/*.csv", "/base/l", "/base")
    for path in ("s3://b/x", "/abs/x"):
        kept = absolute(FileSystemConfig(path=path), base)
        assert isinstance(kept, FileSystemConfig)
        assert kept.path == path
    database = absolute(DatabaseConfig(url="sqlite:///a.db", table="t"), base)
    assert isinstance(database, DatabaseConfig)
    assert database.url == "sqlite:////base/a.db"
    web = absolute(HTTPConfig(url="https://h/", ca_file="ca.pem"), base)
    assert isinstance(web, HTTPConfig)
    assert web.ca_file == "/base/ca.pem"
    memory = MemoryConfig()
    assert absolute(memory, base) is memory
    assert absolute(None, base) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rows.csv", FileSystemConfig),
        ("logs/*.jsonl", FileSystemConfig),
        ("s3://bucket/rows/", FileSystemConfig),
        ("https://example.org/rows.csv", HTTPConfig),
        ("sqlite:///shop.db#orders", DatabaseConfig),
        ("postgresql+psycopg://u@h/shop#orders", DatabaseConfig),
    ],
)
def test_a_source_is_written_as_one_text(text: str, kind: type) -> None:
    """Its form says what it is."""
    assert type(source_of(text)) is kind


def test_a_database_without_a_table_is_no_source() -> None:
    """The text must name it behind a #."""
    with pytest.raises(ConfigError, match="either table or query"):
        source_of("postgresql://u@h/shop")
