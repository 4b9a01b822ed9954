"""An S3 server of the tests' own: moto's, on loopback, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import fsspec
import pytest

from tests.servers.ports import free_port, wait_until_listening


@dataclass(frozen=True)
class Bucket:
    """An empty bucket: `url` begins every object's URL, `options` are what fsspec needs to reach it."""

    url: str
    options: dict[str, Any]

    @property
    def files(self) -> Any:
        """The server as an fsspec file system, without its cache of listings."""
        return fsspec.filesystem("s3", use_listings_cache=False, **self.options)


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    """A running server; gives the fsspec options that reach it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(port, process)
        yield {"key": "test", "secret": "test", "endpoint_url": f"http://127.0.0.1:{port}"}
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def bucket(s3_options: dict[str, Any]) -> Bucket:
    """An empty bucket of the test's own."""
    name = f"test-{token_hex(6)}"
    made = Bucket(f"s3://{name}", s3_options)
    made.files.mkdir(name)
    return made
