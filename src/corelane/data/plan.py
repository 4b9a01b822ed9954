"""Which stages a schema and a configuration make, and which output each of them writes into; nothing is fitted here.

`Pipeline.build` calls it. What `pipeline.columns` says of single columns is checked against the schema here.
"""

from __future__ import annotations

from collections.abc import Mapping

from corelane.core.errors import ConfigError
from corelane.data.config import ImageConfig, PipelineColumnConfig, PipelineConfig
from corelane.data.schema import Column, Kind, Schema
from corelane.data.stages.cast_image import Geometry
from corelane.data.stages.cast_text import CategoryReader
from corelane.data.stages.categorical import CategoricalStage
from corelane.data.stages.column import nearest, shorten
from corelane.data.stages.date import DateStage
from corelane.data.stages.image import ImageStage
from corelane.data.stages.numeric import NumericStage
from corelane.data.stages.protocol import Stage
from corelane.data.stages.tensor import TensorStage
from corelane.data.stages.tokens import TokensStage


def plan_outputs(schema: Schema, config: PipelineConfig) -> dict[str, tuple[Stage, ...]]:
    """Stages by output name: numbers first, then the other tabular columns in schema order; then tensors, tokens and
    images.

    Raises `ConfigError` for a setting of a column that does not exist, or that would have no effect on its kind.
    """
    own = _own_settings(schema, config)
    features: list[Stage] = []
    numbers = tuple(column for column in schema.columns if column.kind == "numeric")
    if numbers:
        features.append(_numeric_stage(numbers, config, own))
    for column in schema.columns:
        if column.kind == "categorical":
            features.append(_categorical_stage(column, config, own[column.name]))
        elif column.kind == "date":
            parts = tuple(own[column.name].date or config.date)
            features.append(DateStage(column, parts, config.cyclic_dates, config.missing_indicator and column.nullable))
        elif _is_vector(column) and column.vocabulary is None:
            features.append(TensorStage(column, own[column.name].numeric or config.numeric))
    outputs: dict[str, tuple[Stage, ...]] = {"features": tuple(features)} if features else {}
    tensors = [column for column in schema.columns if column.kind == "tensor" and not _is_vector(column)]
    for column in tensors:
        stage = TensorStage(column, own[column.name].numeric or config.numeric)
        outputs[_output_name("tensor", column, len(tensors))] = (stage,)
    tokens = [column for column in schema.columns if column.vocabulary is not None]
    for column in tokens:
        outputs[_output_name("tokens", column, len(tokens))] = (TokensStage(column),)
    images = [column for column in schema.columns if column.kind == "image"]
    for column in images:
        outputs[_output_name("image", column, len(images))] = (_image_stage(column, config.image),)
    return outputs


def _numeric_stage(
    columns: tuple[Column, ...], config: PipelineConfig, own: Mapping[str, PipelineColumnConfig]
) -> NumericStage:
    return NumericStage(
        columns,
        tuple(own[column.name].numeric or config.numeric for column in columns),
        tuple(own[column.name].impute or config.impute for column in columns),
        tuple(_fill_number(own[column.name], config) for column in columns),
        config.missing_indicator,
    )


def _fill_number(own: PipelineColumnConfig, config: PipelineConfig) -> float:
    """The constant for a missing number; 0 where there is another imputation."""
    if own.impute is None:
        return config.fill_value
    return own.fill_value if isinstance(own.fill_value, float) else 0.0


def _categorical_stage(column: Column, config: PipelineConfig, own: PipelineColumnConfig) -> CategoricalStage:
    encoding = own.categorical or config.categorical
    num_buckets = own.hash_buckets or config.hash_buckets
    if own.impute == "mode":
        return CategoricalStage(column, encoding, config.max_categories, num_buckets, "mode")
    if own.impute == "constant":
        text = _fill_text(column, own.fill_value)
        return CategoricalStage(column, encoding, config.max_categories, num_buckets, "constant", text)
    return CategoricalStage(column, encoding, config.max_categories, num_buckets)


def _fill_text(column: Column, value: float | str | None) -> str:
    """The category that stands for a missing one, as its cast writes it. Raises `ConfigError` when it is none."""
    text, is_taken = CategoryReader(column).read(value)
    if not text or not is_taken:
        raise ConfigError(
            f"pipeline.columns.{column.name}.fill_value must be a category that the column takes, got {value!r}"
        )
    return text


def _image_stage(column: Column, config: ImageConfig) -> ImageStage:
    geometry = Geometry(config.fit, config.crop, config.background)
    if config.mean is None or config.std is None:
        return ImageStage(column, geometry, config.normalise)
    num_channels = column.shape[2]
    if len(config.mean) != num_channels or len(config.std) != num_channels:
        raise ConfigError(
            f"pipeline.image.mean and std must have {num_channels} numbers, one per channel of {column.name}, "
            f"got {len(config.mean)} and {len(config.std)}"
        )
    return ImageStage(column, geometry, "given", tuple(config.mean), tuple(config.std))


_SETTINGS_OF: dict[str, tuple[str, ...]] = {
    "numeric": ("numeric", "impute", "fill_value"),
    "tensor": ("numeric",),
    "categorical": ("categorical", "hash_buckets", "impute", "fill_value"),
    "date": ("date",),
    "image": (),
}
"""Which settings of `pipeline.columns` a column of each kind has; another would have no effect."""


def _own_settings(schema: Schema, config: PipelineConfig) -> dict[str, PipelineColumnConfig]:
    """The settings of each column by name, those of `pipeline.columns` checked against the schema."""
    kinds = {column.name: column.kind for column in schema.columns}
    are_tokens = {column.name for column in schema.columns if column.vocabulary is not None}
    for name, own in config.columns.items():
        if name not in kinds:
            raise ConfigError(
                f"pipeline.columns must name feature columns of the data, got {shorten(name)}{nearest(name, kinds)}"
            )
        for setting in sorted(own.model_fields_set):
            settings = () if name in are_tokens else _SETTINGS_OF[kinds[name]]
            if getattr(own, setting) is not None and setting not in settings:
                raise ConfigError(
                    f"pipeline.columns.{name}.{setting} must be left out for {kinds[name]} columns, "
                    f"got {getattr(own, setting)!r}; remove it"
                )
        _check_imputation(name, kinds[name], own)
        if own.hash_buckets is not None and (own.categorical or config.categorical) != "hashing":
            raise ConfigError(
                f"pipeline.columns.{name}.hash_buckets must be left out unless its categorical is hashing, "
                f"got {own.hash_buckets}; remove it"
            )
    return {name: config.columns.get(name, PipelineColumnConfig()) for name in kinds}


def _check_imputation(name: str, kind: Kind, own: PipelineColumnConfig) -> None:
    if kind == "categorical" and own.impute in ("median", "mean"):
        raise ConfigError(
            f"pipeline.columns.{name}.impute must be mode or constant for categorical columns, got {own.impute!r}"
        )
    if kind == "numeric" and isinstance(own.fill_value, str):
        raise ConfigError(
            f"pipeline.columns.{name}.fill_value must be a number for numeric columns, got {own.fill_value!r}"
        )


def _is_vector(column: Column) -> bool:
    return column.kind == "tensor" and len(column.shape) == 1


def _output_name(kind: str, column: Column, num_columns: int) -> str:
    return kind if num_columns == 1 else f"{kind}_{column.name}"
