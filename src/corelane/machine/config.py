"""The `machine` section of the configuration: what a user may set in place of what the machine itself reports."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from corelane.core.config import Bytes, Section


class MachineConfig(Section):
    """Threads, memory and the cache directory. Everything left out is measured or chosen by `app`."""

    threads: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Threads of one process; left out: the thread budget of this machine (affinity, quota, cores).",
    )
    memory: Bytes | None = Field(
        default=None,
        ge=1,
        description="Most bytes one process may plan with, such as 4GiB; left out: RAM or the cgroup's limit.",
    )
    plan: str = Field(
        default="auto",
        min_length=1,
        description="How training runs its steps: auto measures what is fastest here and keeps it,"
        " eager measures nothing, and a file is a plan.json to use as it is.",
    )
    cache: str | None = Field(
        default=None,
        min_length=1,
        description="Directory for prepared data and other files that can be made again; left out: chosen by the app.",
    )
    cache_memory_bytes: Bytes | None = Field(
        default=None,
        ge=0,
        description="Most bytes of batches and tensors kept in memory (L1), such as 512MiB; left out: a tenth of the"
        " memory, at most 1 GiB.",
    )
    cache_disk_bytes: Bytes = Field(
        default=10 << 30,
        ge=1,
        description="Most bytes in the cache directory (L2): what was used least recently goes.",
    )
    cache_shared: str | None = Field(
        default=None,
        min_length=1,
        description="URL of a storage that machines share (L3), such as s3://bucket/cache or file:///mnt/nfs/cache:"
        " raw data, packages and logs are archived there. Left out: none.",
    )
    cache_shared_options: dict[str, Any] = Field(
        default_factory=dict, description="What fsspec needs to reach it; ${NAME} is read from the environment."
    )
