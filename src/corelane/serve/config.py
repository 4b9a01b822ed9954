"""The configuration of a server: where it listens, its limits, how it batches and how it stops.

Every limit of `docs/serve.md` is a field here. The root key is `serve`; `app` composes it.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from corelane.core.config import Bytes, Section
from corelane.core.errors import ConfigError
from corelane.serve.slo import Slo
from corelane.web.tls import Tls

MIB = 1 << 20


AUTO = 0
MAIN = "main"


def _workers(value: object) -> object:
    return AUTO if value == "auto" else value


def _management_port(value: object) -> object:
    if value is not None and value != MAIN and (type(value) is not int or not 0 <= value <= 65535):
        raise ValueError(f"must be main or a port from 0 to 65535, got {value!r}")
    return value


class ServeConfig(Section):
    """How a server listens, what it refuses, how it batches and how it stops."""

    packages: list[str] = Field([], description="Packages to serve when the command line names none.")
    registry: str | None = Field(
        None,
        min_length=1,
        description="Registry that `models` are in: a directory, or a URL such as s3://bucket/models.",
    )
    registry_options: dict[str, Any] = Field(
        {}, description="What fsspec needs to reach it; ${NAME} is read from the environment."
    )
    models: list[str] = Field(
        [], description="Models of the registry to serve: name (its champion), name@alias or name@version."
    )
    poll_s: float = Field(
        2.0, ge=0.05, le=3600, description="How often the registry is asked whether an alias names another version."
    )
    model_control: Literal["none", "explicit"] = Field(
        "none",
        description="What changes the models that are served: none, their aliases alone; explicit, calls to load and"
        " unload, and nothing else.",
    )
    management_port: Annotated[
        Annotated[int, Field(ge=0, le=65535)] | Literal["main"] | None, BeforeValidator(_management_port)
    ] = Field(
        None,
        description="Port of management, which the supervisor answers; 0 takes any free one; main: workers answer its"
        " calls on `port` and `grpc_port`, as Triton does; none: none, or any free one where `model_control` is"
        " explicit.",
    )
    management_host: str = Field(
        "127.0.0.1", min_length=1, description="Address of management; off loopback TLS and tokens are needed."
    )
    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; off loopback TLS and tokens are needed."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the gRPC form of the protocol; 0 takes any free one, none: no gRPC."
    )
    grpc_reflection: bool = Field(
        False, description="Tell gRPC callers which calls and messages there are, as tools such as grpcurl ask."
    )
    tls_certificate: str | None = Field(
        None,
        description="PEM file of the certificate, and of those that vouch for it: HTTPS, and gRPC over TLS.",
    )
    tls_key: str | None = Field(None, description="PEM file of the certificate's key, without a password.")
    tokens: str | None = Field(
        None, description="File of tokens that callers must bring (`corelane token new`); none: anybody may ask."
    )
    insecure: bool = Field(False, description="Listen off loopback although there is no TLS, or no token is asked for.")
    workers: Annotated[int, BeforeValidator(_workers)] = Field(
        1,
        ge=AUTO,
        le=1024,
        description="Worker processes that share the port, each pinned to its CPUs; auto (or 0): one for each `threads`"
        " CPUs that this process may use.",
    )
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
    arriving_bytes: Bytes = Field(
        256 * MIB,
        ge=1024,
        description="Most bytes of bodies that are still arriving, in each worker; more get 429.",
    )
    max_connections: int = Field(
        2048,
        ge=1,
        le=65536,
        description="Most open connections per worker, more wait to be accepted; and most calls of gRPC under way.",
    )
    header_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time for a request's head, and that a kept connection may idle."
    )
    body_timeout_s: float = Field(10.0, gt=0, le=3600, description="Longest time a body may take to arrive; then 408.")
    request_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time until a request is answered; then 504."
    )
    hang_timeout_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Longest time for one run of a model; a worker that hangs longer is ended, and another started.",
    )
    slo: str | None = Field(
        None,
        description="Latency that is promised, like p99=20ms: the deadline of requests that bring none, and what sizes"
        " batches and admission; none: `request_timeout_s` is the deadline.",
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
    def _check_registry(self) -> ServeConfig:
        if self.models and self.registry is None:
            raise ValueError(f"registry must be given where models are, got none for {self.models[0]!r}; name it")
        return self

    @field_validator("slo")
    @classmethod
    def _check_slo(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                Slo.parse(text)
            except ConfigError as error:
                raise ValueError(error.message.removeprefix("the SLO ")) from error
        return text

    @model_validator(mode="after")
    def _check_exposure(self) -> ServeConfig:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be given together, got one of them")
        is_safe = self.tls_certificate is not None and self.tokens is not None
        for key, host in (("host", self.host), ("management_host", self.management_host)):
            if not self.insecure and not is_safe and not is_loopback(host):
                raise ValueError(
                    f"{key} must be a loopback address where there is no TLS or no tokens, got {host!r}; give"
                    " tls_certificate, tls_key and tokens (`corelane token new`), put a proxy in front of 127.0.0.1,"
                    " or set `insecure: true` on a network you trust"
                )
        return self

    def with_workers(self, budget_threads: int) -> ServeConfig:
        """This configuration with a number for `workers: auto` on a machine with so many threads to use."""
        if self.workers != AUTO:
            return self
        return self.model_copy(update={"workers": max(1, budget_threads // self.threads)})

    @property
    def port_of_management(self) -> int | None:
        """The port of management, 0 for any; None where it has none of its own."""
        if self.management_port is None:
            return 0 if self.model_control == "explicit" else None
        return None if isinstance(self.management_port, str) else self.management_port

    @property
    def tls(self) -> Tls | None:
        """The certificate and its key, if there are any."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return Tls(Path(self.tls_certificate), Path(self.tls_key))

    @property
    def management_tls(self) -> Tls | None:
        """What management speaks TLS with: the same, and nothing on loopback, which certificates do not name."""
        return None if is_loopback(self.management_host) else self.tls


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or a loopback address; any other name is taken for a remote one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
