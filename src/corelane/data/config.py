"""What the `data` and `pipeline` sections of a configuration may say: where rows come from, which column is the target,
how rows are split, and how columns become tensors. It only declares and checks; the rest of the room acts on it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from corelane.core.config import Section
from corelane.core.types import Task

ColumnKind = Literal["numeric", "categorical", "tensor", "image"]

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class FileSystemConfig(Section):
    """Rows from local files: one CSV, Parquet or IDX file, or a folder with one folder of images per label."""

    type: Literal["filesystem"] = "filesystem"
    path: str = Field(min_length=1, description="File or folder, relative to the configuration file's folder")
    format: Literal["auto", "csv", "parquet", "idx", "images"] = Field(
        default="auto", description="What the path holds; auto looks at the name and the first bytes"
    )
    labels: str | None = Field(default=None, description="IDX only: the file with the labels; relative like path")
    delimiter: str = Field(default=",", description="CSV only: the one ASCII character that separates cells")
    batch_rows: int = Field(default=8192, ge=1, le=1_000_000, description="At most this many rows are read at a time")

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, delimiter: str) -> str:
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise ValueError(f"must be one ASCII character other than a quote or a line break, got {delimiter!r}")
        return delimiter


class MemoryConfig(Section):
    """Rows given in Python, or written out in the configuration when they are few."""

    type: Literal["memory"] = "memory"
    rows: list[dict[str, Any]] = Field(default=[], description="The rows, one mapping of column to value each")
    batch_rows: int = Field(default=8192, ge=1, le=1_000_000, description="At most this many rows travel at a time")


SourceConfig = Annotated[FileSystemConfig | MemoryConfig, Field(discriminator="type")]


class ColumnConfig(Section):
    """What is known of one column; what is left out is inferred from the data."""

    kind: ColumnKind | None = Field(default=None, description="How the column is understood")
    nullable: bool | None = Field(default=None, description="Whether a value may be missing; a missing one rejects")
    minimum: float | None = Field(default=None, description="Numeric only: a smaller value rejects the row")
    maximum: float | None = Field(default=None, description="Numeric only: a larger value rejects the row")
    categories: list[str] | None = Field(
        default=None, min_length=1, description="Categorical only: the values there are; another rejects the row"
    )
    shape: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None, min_length=1, description="Tensor: the shape of one element; image: height, width, channels"
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> ColumnConfig:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum must be at most maximum, got {self.minimum} and {self.maximum}")
        return self


class SplitConfig(Section):
    """Which rows train, which choose the model (validation) and which are looked at once, at the end (test)."""

    validation: Fraction = Field(default=0.1, description="Share of the training rows that choose the model")
    test: Fraction = Field(default=0.2, description="Share of all rows held out; unused with data.test or with folds")
    num_folds: int | None = Field(default=None, ge=2, le=100, description="Cross-validation: the test part is one fold")
    fold: int = Field(default=0, ge=0, description="Which of the folds is the test part")

    @model_validator(mode="after")
    def _check_fold(self) -> SplitConfig:
        if self.fold >= (self.num_folds or 1):
            raise ValueError(f"fold must be less than num_folds ({self.num_folds or 1}), got {self.fold}")
        return self


class DataConfig(Section):
    """The data of a run: source, target, declared columns and split."""

    source: SourceConfig = Field(description="Where the rows come from")
    test: SourceConfig | None = Field(default=None, description="A test set of its own; data.split.test is then unused")
    target: str = Field(min_length=1, description="The column to predict")
    task: Literal["auto"] | Task = Field(default="auto", description="classification, regression, or decided by target")
    columns: dict[str, ColumnConfig] = Field(default={}, description="What is known of single columns")
    exclude: list[str] = Field(default=[], description="Columns to leave out")
    split: SplitConfig = Field(default=SplitConfig(), description="How rows are divided")
    max_rejected: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.05, description="Largest share of rejected rows; more is an error"
    )

    @field_validator("exclude")
    @classmethod
    def _check_unique(cls, exclude: list[str]) -> list[str]:
        if len(set(exclude)) != len(exclude):
            raise ValueError(f"exclude must name each column once, got {exclude}")
        return exclude

    @model_validator(mode="after")
    def _check_names(self) -> DataConfig:
        if self.target in self.exclude:
            raise ValueError(f"exclude must not name the target, got {self.target!r}")
        both = sorted(set(self.columns) & set(self.exclude))
        if both:
            raise ValueError(f"columns must not declare what exclude leaves out, got {both}")
        return self


class ImageConfig(Section):
    """How images enter the network."""

    size: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Height and width to resize to; without it all images must have the size of the first"
    )
    channels: Literal[1, 3] | None = Field(default=None, description="Grey or colour; without it as the first image is")


class PipelineConfig(Section):
    """How checked rows become tensors."""

    numeric: Literal["standardise", "normalise", "none"] = Field(
        default="standardise", description="Zero mean and unit deviation, the range 0 to 1, or as they are"
    )
    impute: Literal["median", "mean", "constant"] = Field(
        default="median", description="What stands for a missing number"
    )
    fill_value: float = Field(default=0.0, allow_inf_nan=False, description="The number used by impute: constant")
    categorical: Literal["one_hot", "ordinal"] = Field(default="one_hot", description="How categories become numbers")
    max_categories: int = Field(default=100, ge=1, le=100_000, description="Rarer categories share the unknown bucket")
    image: ImageConfig = Field(default=ImageConfig(), description="How images are brought to one shape")

    @model_validator(mode="after")
    def _check_fill_value(self) -> PipelineConfig:
        if self.fill_value != 0.0 and self.impute != "constant":
            raise ValueError(f"fill_value must be left out unless impute is constant, got {self.fill_value}")
        return self
