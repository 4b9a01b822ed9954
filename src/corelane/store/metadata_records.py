"""What the metadata store holds, as values: datasets, runs, metrics, checkpoints, packages, servings.

Every record has a key of its own and can be written twice without harm. Names are checked and sizes bounded here, so
that nothing a user's data or an error message holds can break a database. Nothing here touches a database or a file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject

RunStatus: TypeAlias = Literal["running", "finished", "failed", "interrupted"]

MAX_TEXT = 4096  # characters: a path or a message; PATH_MAX is 4,096 bytes
MAX_DOCUMENT_BYTES = 4 << 20  # a schema of 40,000 columns; a larger one stays in its file and its size is told
MAX_METRICS = 200_000  # values of one run: 10,000 log entries of a dozen values leave room; the rest stays in the file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_./@ -]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{32,64}")
_WITH_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s/]*|[^\s/:]+:\S*)@")
_WITH_QUERY = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s?#]*)[?#][^\s'\"]*")
_NAMED = re.compile(r"""(?i)\b(password|passwd|secret|token|api_?key|access_?key)(\s*[=:]\s*["']?)[^\s,;'"]+""")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows as a run saw them. `source` describes where they come from, without secrets; `profile` is None if unknown.

    Its key is made of its content: the same rows seen through the same schema are one data set, however many runs.
    """

    strength: str
    digest: str
    source: JsonObject
    schema: JsonObject
    profile: JsonObject | None = None

    @property
    def key(self) -> str:
        """128 bits of the SHA-256 of everything, as hexadecimal digits."""
        content = [self.strength, self.digest, self.source, self.schema, self.profile]
        return hashlib.sha256(document(content, limit=None).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run: its `key` (from its directory), names, state and outcome.

    `name` is the directory's (`digits-001`), `title` the configuration's (`digits`). Times are seconds since the Unix
    epoch; `finished_s` is None while it runs, and `seen_s` is when the directory was looked at: an older look never
    replaces a newer one. `seconds` is the time by phase, `metrics` the result's figures.
    """

    key: str
    name: str
    title: str
    directory: str
    host: str
    status: RunStatus
    config_digest: str
    config: JsonObject
    started_s: float
    seen_s: float
    finished_s: float | None = None
    seed: int | None = None
    dataset: str | None = None
    pipeline_digest: str | None = None
    num_rejected: int | None = None
    num_steps: int | None = None
    num_epochs: int | None = None
    best_step: int | None = None
    examples_per_s: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        _check(_DIGEST, "a run's key", self.key)
        _check(_NAME, "a run's name", self.name)
        for name in self.metrics:
            _check(_METRIC, "a metric's name", name)


@dataclass(frozen=True, slots=True)
class Metric:
    """One value, measured after `step` steps in epoch `epoch` (from 0). Raises `ConfigError` if it is not finite."""

    name: str
    step: int
    epoch: int
    value: float

    def __post_init__(self) -> None:
        _check(_METRIC, "a metric's name", self.name)
        if not math.isfinite(self.value):
            raise ConfigError(f"the metric {self.name} must be a finite number, got {self.value!r}; leave it out")


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """Values of the run `run`, to be added to those that are there or, with `replaces`, put in their place."""

    run: str
    values: Sequence[Metric]
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint: its step, the digest of its bundle, its size, whether its step is the best one so far."""

    step: int
    digest: str
    num_bytes: int
    is_best: bool


@dataclass(frozen=True, slots=True)
class RunCheckpoints:
    """All checkpoints that the run `run` has now; they take the place of those written before."""

    run: str
    checkpoints: Sequence[Checkpoint]


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """One published version. `run` and `checkpoint` are the key and the digest it was made from, None if unknown."""

    digest: str
    name: str
    version: int
    directory: str
    host: str
    task: str
    created: str
    num_bytes: int
    config_digest: str
    data_digest: str
    metrics: Mapping[str, float]
    run: str | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        _check(_NAME, "a package's name", self.name)
        _check(_DIGEST, "a package's digest", self.digest)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that serves a package: process `pid` of `host` at `url`, from `since_s` until `until_s` if it told."""

    package: str
    name: str
    version: int
    url: str
    host: str
    pid: int
    since_s: float
    until_s: float | None = None

    @property
    def key(self) -> str:
        """128 bits of the SHA-256 of what does not change, as hexadecimal digits."""
        parts = [self.package, self.host, self.pid, round(self.since_s * 1000)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


Record: TypeAlias = Dataset | RunRecord | RunMetrics | RunCheckpoints | PackageRecord | Serving


def document(value: object, *, limit: int | None = MAX_DOCUMENT_BYTES) -> str:
    """`value` as canonical JSON in ASCII; one that would be larger than `limit` bytes says only how large it is."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text if limit is None or len(text) <= limit else json.dumps({"omitted_bytes": len(text)})


def stored_text(text: str) -> str:
    """`text` as every database takes it: no NUL, no lone surrogate, no password, at most `MAX_TEXT` characters."""
    clean = without_secrets(text).replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= MAX_TEXT else clean[: MAX_TEXT - 1] + "…"


def without_secrets(text: str) -> str:
    """`text` without user parts and queries of the URLs in it, and without the value of `password=...` and such."""
    return _NAMED.sub(r"\1\2…", _WITH_QUERY.sub(r"\1?…", _WITH_PASSWORD.sub(r"\1…@", text)))


def _check(pattern: re.Pattern[str], what: str, value: str) -> None:
    if pattern.fullmatch(value) is None:
        raise ConfigError(f"{what} must match {pattern.pattern}, got {value[:80]!r}; rename it")
