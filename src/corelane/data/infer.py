"""Schema inference: what each column is, from all of its values, where the configuration does not say.

One bounded pass over the raw batches keeps a small profile per column. A text column is numeric when nearly all of its
values are numbers, so that a stray bad cell is rejected with its row instead of turning the column into categories.
Serving imputes, therefore number and category columns are nullable whether or not the training data had gaps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from corelane.core.errors import ConfigError, DataError
from corelane.core.types import StatedTask
from corelane.data.column_config import ColumnConfig
from corelane.data.config import DataConfig, ImageConfig, PipelineConfig
from corelane.data.profile import ColumnProfile, is_scalar
from corelane.data.schema import MAX_COLUMNS, Column, Kind, Schema
from corelane.data.stages.cast_text import canonical_text
from corelane.data.stages.column import nearest
from corelane.data.target import IS_SET, IS_UNSET, MAX_LABELS

_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "numeric": ("minimum", "maximum", "outside", "unreadable"),
    "categorical": ("categories", "pattern", "trim", "unreadable"),
    "date": ("unreadable",),
    "tensor": ("shape", "vocabulary"),
    "image": ("shape",),
}
"""What may be declared of a column of each kind beside `kind` and `nullable`; the rest would have no effect."""

_COMPARABLE: tuple[Kind, ...] = ("numeric", "categorical", "date")  # may be declared unique

_NOTHING = ColumnConfig()

MAX_INTEGER_LABELS = 20  # a whole-number target with more distinct values is taken for a quantity


@dataclass(frozen=True, slots=True)
class Problem:
    """Why data cannot be trained on as they are: the column ("" for the data as a whole), and a reason in words."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inference:
    """The schema of the columns that can be used (None when none can), and what is the matter with the others."""

    schema: Schema | None
    problems: tuple[Problem, ...]


def infer_schema(
    batches: Iterable[pa.RecordBatch],
    config: DataConfig,
    pipeline: PipelineConfig,
    narrow: Callable[[Collection[str]], None] = lambda _: None,
) -> Schema:
    """The schema of raw `batches`, with what `config` declares and the image size `pipeline` asks for.

    After the first batch `narrow` is told which columns are not settled yet; later batches may be without the others.
    Raises `DataError` when there are no rows, a named column is absent, a column has no value at all, or the target has
    one label only; `ConfigError` when a declaration cannot be.
    """
    found = infer_usable(batches, config, pipeline, config.targets, narrow)
    if found.problems or found.schema is None:
        raise DataError(found.problems[0].reason)
    return found.schema


def infer_usable(
    batches: Iterable[pa.RecordBatch],
    config: DataConfig,
    pipeline: PipelineConfig,
    targets: Sequence[str],
    narrow: Callable[[Collection[str]], None] = lambda _: None,
) -> Inference:
    """As `infer_schema`, but for columns that cannot be used, which are told; without `targets` all are features.

    Raises `DataError` for what is wrong with the data as a whole, `ConfigError` when a declaration cannot be.
    """
    profiles: dict[str, ColumnProfile] = {}
    num_rows = 0
    for rows in batches:
        if not profiles:
            _check_names(rows.schema.names, config, targets)
            profiles = {name: _profile(name, config, targets) for name in rows.schema.names}
            for name in config.exclude:
                del profiles[name]
        open_profiles = [profile for profile in profiles.values() if not profile.is_settled]
        for profile in open_profiles:
            profile.update(rows.column(profile.name))
        if not num_rows:
            narrow([profile.name for profile in open_profiles if not profile.is_settled])
        num_rows += rows.num_rows
    if not num_rows:
        raise DataError("the data must have at least one row, got none; give a file with rows, not a header alone")
    return _infer(profiles, num_rows, config, pipeline, targets)


def _infer(
    profiles: Mapping[str, ColumnProfile],
    num_rows: int,
    config: DataConfig,
    pipeline: PipelineConfig,
    targets: Sequence[str],
) -> Inference:
    problems: list[Problem] = []
    task: StatedTask = "classification"
    predicted: list[Column] = []
    for name in targets:
        try:
            task = _task(profiles[name], config, num_rows)
            predicted.append(_target(profiles[name], config, task))
        except DataError as error:
            problems.append(Problem(name, error.message))
    columns: list[Column] = []
    for name, profile in profiles.items():
        if any(name == column.name for column in predicted):
            continue
        try:
            columns.append(_column(profile, config.columns.get(name, _NOTHING), pipeline.image))
        except DataError as error:
            if name not in targets:  # which have their problems already, and are only described
                problems.append(Problem(name, error.message))
    if not columns and not problems:
        shown = ", ".join(map(repr, targets))
        problems.append(Problem("", f"the data must have a column besides the target {shown}, got none"))
    if not columns:
        return Inference(None, tuple(problems))
    positive = _positive(config, task)
    return Inference(Schema(tuple(columns), tuple(predicted), task, positive, config.separator), tuple(problems))


def _profile(name: str, config: DataConfig, targets: Sequence[str]) -> ColumnProfile:
    declared = config.columns.get(name, _NOTHING)
    trims = declared.trim is not False
    categories = [text.strip() if trims else text for text in declared.categories or ()]
    return ColumnProfile(name, name in targets, trims=trims, declared=categories)


def _check_names(names: list[str], config: DataConfig, targets: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"column names must be unique, got {twice[0]!r} more than once; rename one")
    if len(names) > MAX_COLUMNS:
        raise DataError(f"the data must have at most {MAX_COLUMNS} columns, got {len(names)}; exclude some")
    compared = config.deduplicate if isinstance(config.deduplicate, list) else []
    for what, wanted in (
        ("target", targets),
        ("columns", config.columns),
        ("exclude", config.exclude),
        ("deduplicate", compared),
    ):
        for name in wanted:
            if name not in names:
                raise DataError(f"data.{what} must name columns of the data, got {name!r}{nearest(name, names)}")


# --- features ---------------------------------------------------------------------------------------------------------


def _column(profile: ColumnProfile, declared: ColumnConfig, image: ImageConfig) -> Column:
    if not profile.num_present:
        raise DataError(f"{profile.name} must have at least one value, got none; leave it out with data.exclude")
    kind = declared.kind or _declared_kind(declared) or _kind(profile)
    _check_options(profile.name, kind, declared)
    if kind == "image":
        return _image_column(profile, declared, image)
    if kind == "tensor":
        shape = tuple(declared.shape) if declared.shape else profile.shape or ()
        _require_not_nullable(profile.name, declared)
        return Column(profile.name, "tensor", shape=shape, nullable=False, vocabulary=declared.vocabulary)
    return _plain_column(profile.name, kind, declared, nullable=declared.nullable is not False)


def _plain_column(name: str, kind: Kind, declared: ColumnConfig, *, nullable: bool) -> Column:
    """A column of numbers, categories or dates with what is declared of it."""
    return Column(
        name,
        kind,
        nullable=nullable,
        minimum=_finite(declared.minimum),
        maximum=_finite(declared.maximum),
        categories=_categories(declared),
        outside=declared.outside or "reject",
        unreadable=declared.unreadable or "reject",
        pattern=declared.pattern,
        trim=declared.trim is not False,
    )


def _declared_kind(declared: ColumnConfig) -> Kind | None:
    """The kind that declared limits imply: categories, a pattern and spaces for texts, bounds for numbers."""
    if declared.categories is not None or declared.pattern is not None or declared.trim is not None:
        return "categorical"
    return "numeric" if declared.minimum is not None or declared.maximum is not None else None


def _kind(profile: ColumnProfile) -> Kind:
    if profile.image is not None:
        return "image"
    if profile.shape is not None:
        is_picture = len(profile.shape) == 2 or (len(profile.shape) == 3 and profile.shape[2] in (1, 3))
        return "image" if is_picture and _is_uint8_tensor(profile.physical) else "tensor"
    if not is_scalar(profile.physical):
        raise DataError(
            f"{profile.name} must hold numbers, texts, times, lists or images, got {profile.physical}; "
            "leave it out with data.exclude"
        )
    if profile.is_numeric:
        return "numeric"
    return "date" if profile.is_date else "categorical"


def _is_uint8_tensor(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.FixedShapeTensorType) and kind.value_type == pa.uint8()


def _image_column(profile: ColumnProfile, declared: ColumnConfig, image: ImageConfig) -> Column:
    found = profile.image or (profile.shape if profile.shape and len(profile.shape) in (2, 3) else None)
    if found is None:
        raise DataError(f"{profile.name} must hold images or uint8 arrays of pixels, got {profile.physical}")
    shape = tuple(declared.shape) if declared.shape else (*found, 1)[:3]
    if image.size is not None:
        shape = (*image.size, *shape[2:])
    if image.channels is not None:
        shape = (*shape[:2], image.channels)
    _require_not_nullable(profile.name, declared)
    return Column(
        profile.name,
        "image",
        shape=shape,
        nullable=False,
        encoded=profile.image is not None,
        resize=image.size is not None,
    )


def _check_options(name: str, kind: Kind, declared: ColumnConfig) -> None:
    """Refuse what is declared of a column and not read for its kind: it would be thought to hold, and not hold."""
    for option in sorted({option for options in _OPTIONS.values() for option in options} - set(_OPTIONS[kind])):
        value = getattr(declared, option)
        if value is not None:
            raise ConfigError(
                f"data.columns.{name}.{option} must be left out for a {kind} column, got {value!r}; "
                "remove it, or declare another kind"
            )
    if declared.unique and kind not in _COMPARABLE:
        raise ConfigError(
            f"data.columns.{name}.unique must be left out for a {kind} column; compare whole rows with data.deduplicate"
        )


def _require_not_nullable(name: str, declared: ColumnConfig) -> None:
    if declared.nullable:
        raise ConfigError(f"data.columns.{name}.nullable must be false for tensors and images, got true; remove it")


def _finite(bound: float | None) -> float | None:
    return None if bound is None or math.isinf(bound) else bound


def _categories(declared: ColumnConfig) -> tuple[str, ...] | None:
    """Declared categories as the cast will see them: trimmed, booleans in lower case; "NA" stays a category."""
    if declared.categories is None:
        return None
    trim = declared.trim is not False
    texts = tuple(canonical_text(text, trim=trim) or (text.strip() if trim else text) for text in declared.categories)
    if len(set(texts)) < len(texts):
        raise ConfigError(f"categories must be distinct, got {list(declared.categories)}; remove the repeats")
    return texts


# --- the target -------------------------------------------------------------------------------------------------------


def _task(target: ColumnProfile, config: DataConfig, num_rows: int) -> StatedTask:
    if config.task != "auto":
        return config.task
    if config.is_multi_label:
        return "multi_label"
    declared = config.columns.get(target.name, _NOTHING)
    kind = declared.kind or _declared_kind(declared)
    if kind is not None:
        return "regression" if kind == "numeric" else "classification"
    if not target.is_numeric:
        return "classification"
    is_coded = target.are_integers and len(target.labels) <= min(MAX_INTEGER_LABELS, max(num_rows // 2, 2))
    return "classification" if is_coded else "regression"


def _positive(config: DataConfig, task: StatedTask) -> str | None:
    """The positive label's text, as the cast will make it."""
    if config.positive is None:
        return None
    if task == "regression":
        raise ConfigError(
            f"data.positive must be left out for a regression, got {config.positive!r}; set data.task: binary"
        )
    return canonical_text(config.positive) or str(config.positive)  # a declared category may be written like no value


def _target(target: ColumnProfile, config: DataConfig, task: StatedTask) -> Column:
    declared = config.columns.get(target.name, _NOTHING)
    if not is_scalar(target.physical) or not target.num_present:
        got = "none" if not target.num_present else str(target.physical)
        raise DataError(f"the target {target.name} must hold labels or numbers, got {got}; check data.target")
    _check_target_declared(target.name, declared, task)
    if task == "regression":
        if not target.is_numeric:
            raise DataError(
                f"the target {target.name} must hold numbers for regression, got "
                f"{target.num_present - target.num_numbers} other values among {target.num_present}; "
                "set data.task: classification, or clean the column"
            )
        return _plain_column(target.name, "numeric", declared, nullable=False)
    if config.separator is not None:  # where nothing is in the cell, the row has no label
        return _plain_column(target.name, "categorical", declared, nullable=declared.nullable is not False)
    if task == "multi_label":
        return _label_column(target.name, declared)
    if len(target.labels) > MAX_LABELS:
        raise DataError(
            f"the target {target.name} must have at most {MAX_LABELS} labels, got more; "
            "set data.task: regression for a quantity, or choose another target"
        )
    if len(target.labels) == 1:
        (label,) = target.labels
        raise DataError(
            f"the target {target.name} must have at least two different labels, got only {label!r}; "
            "check data.target and the data"
        )
    return _plain_column(target.name, "categorical", declared, nullable=False)


def _label_column(name: str, declared: ColumnConfig) -> Column:
    """A column that says of each row whether it has the label of that name."""
    if _declared_kind(declared) is not None:
        raise ConfigError(
            f"data.columns.{name} must declare no categories, pattern or spaces for a label that is there or not; "
            "remove them"
        )
    return Column(name, "categorical", nullable=False, categories=(*IS_UNSET, *IS_SET))


def _check_target_declared(name: str, declared: ColumnConfig, task: StatedTask) -> None:
    kind: Kind = "numeric" if task == "regression" else "categorical"
    if declared.kind not in (None, kind):
        raise ConfigError(
            f"data.columns.{name}.kind must be {kind!r} for the target of a {task}, got {declared.kind!r}; "
            "change it, or data.task"
        )
    if declared.nullable:
        raise ConfigError(f"data.columns.{name}.nullable must be false for the target, got true; remove it")
    if "missing" in (declared.outside, declared.unreadable):
        raise ConfigError(
            f"data.columns.{name} must refuse or clip what it cannot take, got missing; the target must have a value"
        )
    _check_options(name, kind, declared)
