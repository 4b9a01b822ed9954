"""The configuration of a server: where it listens, its limits, how it batches and how it stops.

Every limit of `docs/serve.md` is a field here. The root key is `serve`; `app` composes it.
"""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, model_validator

from corelane.core.config import Bytes, Section

MIB = 1 << 20


class ServeConfig(Section):
    """How a server listens, what it refuses, how it batches and how it stops."""

    packages: list[str] = Field([], description="Packages to serve when the command line names none.")
    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; off loopback needs `insecure: true`."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the gRPC form of the protocol; 0 takes any free one, none: no gRPC."
    )
    grpc_reflection: bool = Field(
        False, description="Tell gRPC callers which calls and messages there are, as tools such as grpcurl ask."
    )
    insecure: bool = Field(False, description="Listen off loopback although there is neither TLS nor a token yet.")
    workers: int = Field(1, ge=1, le=1024, description="Worker processes that share the port, each pinned to its CPUs.")
    threads: int = Field(1, ge=1, le=1024, description="Threads of the inference runtime in each worker.")
    plan: Literal["auto", "safe"] = Field(
        "auto",
        description="Which graph of a package is run, and how: auto takes this machine's plan from the cache,"
        " and looks for one when the machine is idle; safe runs the float32 graph on `threads` threads.",
    )
    batch_size: int = Field(32, ge=1, le=65536, description="Most rows that requests are joined into for one run.")
    batch_delay_s: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Longest time a batch may wait to grow although an executor is idle; 0 never waits.",
    )
    queue_size: int = Field(1000, ge=1, le=1_000_000, description="Most requests that wait per model; more get 429.")
    shed_status: Literal[429, 503] = Field(
        429, description="Status of a request that finds the queue full: 503 for clients that were written for Triton."
    )
    queue_bytes: Bytes = Field(64 * MIB, ge=1024, description="Most bytes of waiting requests per model; more get 429.")
    max_body: Bytes = Field(16 * MIB, ge=1024, description="Largest request body; a larger one gets 413 unread.")
    max_connections: int = Field(
        2048, ge=1, le=65536, description="Most open connections per worker; more wait to be accepted."
    )
    header_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time for a request's head, and that a kept connection may idle."
    )
    body_timeout_s: float = Field(10.0, gt=0, le=3600, description="Longest time a body may take to arrive; then 408.")
    request_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time until a request is answered; then 504."
    )
    announce_s: float = Field(
        0.0,
        ge=0,
        le=300,
        description="How long a stopping server reports not ready and still serves, before it drains.",
    )
    drain_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time for requests in flight when stopping."
    )

    @model_validator(mode="after")
    def _check_exposure(self) -> ServeConfig:
        if not self.insecure and not is_loopback(self.host):
            raise ValueError(
                f"host must be a loopback address, got {self.host!r}; the server has no TLS and no tokens yet:"
                " put a proxy in front of 127.0.0.1, or set `insecure: true` on a network you trust"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or a loopback address; any other name is taken for a remote one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
