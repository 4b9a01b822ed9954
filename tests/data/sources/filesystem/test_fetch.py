"""Remote files brought here: over a connection that breaks, and only once while nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corelane.core.clock import SystemClock
from corelane.core.errors import SourceRestartError
from corelane.data.sources.filesystem.fetch import MAX_RETRIES, fetch
from corelane.store.tiers.disk import DiskTier
from tests.faults.proxy import FaultProxy
from tests.servers.s3 import Bucket

DATA = bytes(range(256)) * 20_000  # 5 MB


class InstantClock(SystemClock):
    """Waits between tries take no time."""

    def sleep(self, seconds: float) -> None:
        del seconds


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


def port_of(bucket: Bucket) -> int:
    return int(bucket.options["endpoint_url"].rpartition(":")[2])


def through(proxy: FaultProxy, bucket: Bucket) -> dict[str, Any]:
    """What reaches the bucket through `proxy`, without tries of the driver's own."""
    retries = {"retries": {"max_attempts": 0}, "connect_timeout": 5, "read_timeout": 5}
    return {**bucket.options, "endpoint_url": f"http://127.0.0.1:{proxy.port}", "config_kwargs": retries}


def test_a_connection_that_breaks_costs_a_new_try(bucket: Bucket, tmp_path: Path) -> None:
    """C1: reset in the middle of an object, again and again, it is fetched whole, by the driver's tries or by ours."""
    bucket.files.pipe(f"{bucket.url}/rows.bin", DATA)
    with FaultProxy(port_of(bucket)) as proxy:
        proxy.cut_after = [1_000_000] * 3
        folder, hold = fetch(
            f"{bucket.url}/rows.bin",
            through(proxy, bucket),
            DiskTier(tmp_path),
            tell=lambda event, fields: None,
            clock=InstantClock(),
        )
        assert (folder / "rows.bin").read_bytes() == DATA
        assert proxy.num_connections > 3
        del hold


def test_tries_are_bounded(bucket: Bucket, tmp_path: Path) -> None:
    """A store that stays away is an error, which leaves nothing behind."""
    told: list[Any] = []
    with FaultProxy(port_of(bucket)) as proxy:
        proxy.is_refusing = True
        with pytest.raises(SourceRestartError, match="must be reachable"):
            fetch(
                f"{bucket.url}/rows.bin",
                through(proxy, bucket),
                DiskTier(tmp_path),
                tell=lambda event, fields: told.append(event),
                clock=InstantClock(),
            )
    assert len(told) == MAX_RETRIES
    assert not list(tmp_path.rglob("rows.bin"))


def test_what_is_unchanged_is_fetched_once(bucket: Bucket, tmp_path: Path) -> None:
    """The listing alone is asked for; another content is another entry, and the first stays while it is held."""
    cache, url = DiskTier(tmp_path), f"{bucket.url}/rows"
    bucket.files.pipe(f"{url}/a", b"one")
    first, hold = fetch(url, bucket.options, cache, tell=lambda event, fields: None)
    again, other = fetch(url, bucket.options, cache, tell=lambda event, fields: None)
    assert again == first
    bucket.files.pipe(f"{url}/a", b"two")
    changed, last = fetch(url, bucket.options, cache, tell=lambda event, fields: None)
    assert changed != first
    assert [(folder / "a").read_bytes() for folder in (first, changed)] == [b"one", b"two"]
    del hold, other, last


def test_other_options_are_another_store(tmp_path: Path) -> None:
    """A host may be named in the options alone, so equal listings under others are fetched; their order is nothing."""
    cache = DiskTier(tmp_path / "cache")
    (tmp_path / "rows").write_bytes(b"one")

    def fetched(options: dict[str, Any]) -> str:
        return fetch(f"file://{tmp_path}/rows", options, cache, tell=lambda event, fields: None)[0].parent.name

    options: list[dict[str, Any]] = [
        {},
        {"auto_mkdir": True},
        {"auto_mkdir": False},
        {"auto_mkdir": True, "asynchronous": False},
    ]
    names = [fetched(one) for one in options]
    assert len(set(names)) == 4
    assert fetched(dict(reversed(options[-1].items()))) == names[-1]
