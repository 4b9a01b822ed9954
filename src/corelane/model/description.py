"""package.json: what a package says about itself, as classes, and its reading and writing.

Plain facts only: signature, architecture, metrics, graphs with their tolerances, provenance. No code, no import path
of a user's module, no path of the machine that wrote it. Files are named relative to the package and never leave it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from corelane.core.config import Section
from corelane.core.errors import BundleError, ConfigError
from corelane.core.types import Json, StatedTask
from corelane.model.signature import Signature
from corelane.model.skew import Tolerance

FORMAT_VERSION = 1
DESCRIPTION = "package.json"
MAX_DESCRIPTION_BYTES = 16 << 20  # a signature of 100,000 columns takes about 8 MB
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""A package's name is a folder and a part of URLs: letters, digits and `_.-`, at most 64 of them."""

GRAPH_FILE = r"^graphs/[A-Za-z0-9_-]{1,64}\.onnx$"

GraphName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Graph(Section):
    """One ONNX graph: its file in the package, and how far its answers may lie from the training path's."""

    file: str = Field(pattern=GRAPH_FILE)
    tolerance: Tolerance


class Provenance(Section):
    """Where a package comes from: library versions, the data's fingerprint, the configuration's digest, the time, and
    the training run by its key and the digest of the checkpoint (None for a package that was not trained here), and the
    package whose graphs were optimised, by its digest."""

    corelane: str
    torch: str
    onnx: str
    data_fingerprint: dict[str, Json]
    config_digest: str
    created: str = Field(description="UTC time as YYYY-MM-DDTHH:MM:SSZ")
    run: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    checkpoint: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    optimized_from: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class Description(Section):
    """The content of package.json."""

    format_version: int = FORMAT_VERSION
    name: str = Field(pattern=NAME)
    version: int = Field(ge=1)
    task: StatedTask | Literal["tensors"]  # earlier releases wrote classification; tensors: not trained here
    signature: Signature
    architecture: dict[str, Any]
    metrics: dict[str, float]
    graphs: dict[GraphName, Graph] = Field(min_length=1)
    provenance: Provenance


def check_name(name: str) -> str:
    """`name`, if it can name a package. Raises `ConfigError`."""
    if re.fullmatch(NAME, name) is None:
        raise ConfigError(
            "a package's name must be 1 to 64 letters, digits and _.- that start with a letter or digit, "
            f"got {name!r}; choose another"
        )
    return name


def write_description(path: Path, description: Description) -> None:
    """Write `description` as readable JSON."""
    path.write_text(json.dumps(description.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_description(path: Path) -> Description:
    """Read and check package.json. Raises `BundleError` when it is of an unknown version or says something unknown."""
    return parse_description(path.read_bytes(), path)


def parse_description(content: bytes, path: Path) -> Description:
    """The same of its `content`; `path` is for messages."""
    values = parse_json(content, path)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} must have format_version {FORMAT_VERSION}, got {version!r}; "
            "use the release of Corelane that wrote it"
        )
    try:
        return Description.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(
            f"{path} must be a package description, got {first['input']!r:.80} for {where} ({first['msg']}); "
            "package the run again"
        ) from error


def parse_json(content: bytes, path: Path) -> Mapping[str, Any]:
    """The JSON object in `content`. Raises `BundleError` when it is too large, not JSON or not an object."""
    if len(content) > MAX_DESCRIPTION_BYTES:
        raise BundleError(f"{path} must be at most {MAX_DESCRIPTION_BYTES} bytes; package the run again")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} must be JSON, got something else; package the run again") from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} must be a JSON object, got a {type(values).__name__}; package the run again")
    return values
