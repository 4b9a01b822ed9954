"""The strict configuration loader: YAML in, one validated model out; errors name the line and the nearest key.

It loads, overrides and reports. Which sections exist and what they mean is declared by each room in a class derived
from `Section`; `app` composes them into the root. Aliases are refused (they can unfold to gigabytes), and so are
duplicate keys.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from corelane.core.errors import ConfigError

MAX_CONFIG_BYTES = 1 << 20  # a hand-written configuration is a few KiB; a megabyte is a mistake or an attack
MAX_CONFIG_DEPTH = 32

KeyPath = tuple[str | int, ...]


class Section(BaseModel):
    """Base of every configuration class: closed (unknown keys are refused) and frozen (an existing one is valid)."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), validate_default=True)


SectionT = TypeVar("SectionT", bound=Section)

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?\s*$")
_FACTORS = {
    None: 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def parse_bytes(value: object) -> object:
    """Turn `"512MiB"` or `"1.5 GB"` into bytes; a value that is not text is left for pydantic to judge."""
    if isinstance(value, str):
        match = _SIZE.match(value)
        if match is None:
            raise ValueError(f"must be a size such as 512MiB or 1048576, got {value!r}")
        return int(float(match.group(1)) * _FACTORS[match.group(2)])
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
"""A size in bytes that also accepts `512MiB`."""


def load_config(path: Path, root: type[SectionT], overrides: Sequence[str] = ()) -> SectionT:
    """Read the YAML file at `path`, apply `overrides` (`a.b=c`), and validate it as `root`.

    Raises `ConfigError` with file, line, what must be, what was got and the nearest known name.
    """
    if not path.is_file():
        raise ConfigError(f"the configuration must be a file, got {str(path)!r}; run `corelane init` to make one")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} must be at most {MAX_CONFIG_BYTES} bytes, got {path.stat().st_size}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} must be UTF-8 text; save it as UTF-8") from error
    return parse_config(text, root, overrides, name=str(path))


def parse_config(text: str, root: type[SectionT], overrides: Sequence[str] = (), *, name: str = "<text>") -> SectionT:
    """`load_config` for YAML that is already in memory; `name` stands where the file's path would in errors."""
    values, lines = _read_yaml(text, name)
    for override in overrides:
        _apply_override(values, override)
    return validate_config(values, root, lines=lines, name=name)


def validate_config(
    values: Mapping[str, Any],
    root: type[SectionT],
    *,
    lines: Mapping[KeyPath, int] | None = None,
    name: str = "the configuration",
) -> SectionT:
    """Validate nested `values` as `root`. `lines` maps key paths to line numbers for the error message."""
    try:
        return root.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error.errors(include_url=False), root, lines or {}, name)) from error


def dump_config(config: Section) -> str:
    """The resolved configuration as YAML, keys in declared order."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


# --- YAML with line numbers -------------------------------------------------------------------------------------------


def _read_yaml(text: str, name: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ConfigError(f"{name} must not use YAML aliases (*name); write the value out")
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: must be YAML, got a syntax error: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: must be YAML text, got something else: {error}") from error
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{name}:1: must hold sections, got a {node.tag.rpartition(':')[2]}; see `corelane config schema`"
        )
    lines: dict[KeyPath, int] = {}
    values = _build(node, (), lines, name)
    return typing.cast(dict[str, Any], values), lines


def _build(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str) -> Any:
    if len(path) > MAX_CONFIG_DEPTH:
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: must nest at most {MAX_CONFIG_DEPTH} levels")
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in values:
                raise ConfigError(f"{name}:{line}: keys must be unique, got {key!r} twice; keep one")
            lines[(*path, key)] = line
            values[key] = _build(value_node, (*path, key), lines, name)
        return values
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            items.append(_build(item, (*path, index), lines, name))
        return items
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: must be a plain value, got {node.value!r}") from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    dotted, separator, raw = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set must be of the form a.b=value, got {override!r}")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {dotted} must be a YAML value, got {raw!r}") from error
    target = values
    for key in keys[:-1]:
        child = target.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {dotted} must name a key inside a section, but {key!r} is the value {child!r}")
        target = child
    target[keys[-1]] = value


# --- explaining a refusal ---------------------------------------------------------------------------------------------

_NAMES_ITS_KEY = re.compile(r"\w+( and \w+)? must ")  # a section's own check says which of its keys it is about


def _explain(errors: Sequence[ErrorDetails], root: type[BaseModel], lines: Mapping[KeyPath, int], name: str) -> str:
    # A typo in a key often causes the other complaints, so an unknown key is told first.
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    path, line = _locate(first["loc"], lines)
    where = f"{name}:{line}" if line else name
    dotted = ".".join(str(part) for part in path)
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        known = sorted(_field_names(root, first["loc"][:-1]))
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{where}: {dotted} must be a known key, got {key!r}; {hint}"
    if first["type"] == "missing":
        return f"{where}: {dotted} must be given; add it"
    if first["type"] == "union_tag_invalid":
        context = first.get("ctx", {})
        key = context["discriminator"].strip("'")
        return f"{where}: {dotted}.{key} must be one of {context['expected_tags']}, got {context['tag']!r}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    got = "" if ", got " in message else f", got {_short(first['input'])}"
    if _NAMES_ITS_KEY.match(message):
        subject = f"{dotted}." if dotted else ""
    else:
        subject = f"{dotted or 'the configuration'} " + ("" if message.startswith("must ") else "must be ")
    return f"{where}: {subject}{message}{got}; see `corelane config schema`"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _locate(loc: Sequence[str | int], lines: Mapping[KeyPath, int]) -> tuple[KeyPath, int | None]:
    """The key path and line of a pydantic location, leaving out the union tags that pydantic puts in between."""
    if not lines:
        return tuple(loc), None
    path: KeyPath = ()
    line: int | None = None
    for index, part in enumerate(loc):
        if (*path, part) in lines or index == len(loc) - 1:
            path = (*path, part)
            line = lines.get(path, line)
    return path, line


def _field_names(root: type[BaseModel], loc: Sequence[str | int]) -> set[str]:
    models: list[type[BaseModel]] = [root]
    for part in loc:
        nested = [
            inner
            for model in models
            if part in model.model_fields
            for inner in _models_in(model.model_fields[str(part)].annotation)
        ]
        tagged = [model for model in models if _has_tag(model, part)]
        models = nested or tagged or models
    return {name for model in models for name in model.model_fields}


def _has_tag(model: type[BaseModel], tag: str | int) -> bool:
    return any(tag in typing.get_args(field.annotation) for field in model.model_fields.values())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
