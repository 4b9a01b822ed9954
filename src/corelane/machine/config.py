"""The `machine` section of the configuration: what a user may set in place of what the machine itself reports."""

from __future__ import annotations

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
    cache: str | None = Field(
        default=None,
        min_length=1,
        description="Directory for prepared data and other files that can be made again; left out: chosen by the app.",
    )
