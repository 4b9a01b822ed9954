"""What the `data` and `pipeline` sections of a configuration may say: where rows come from, which column is the target,
how rows are split, and how columns become tensors. It only declares and checks; the rest of the room acts on it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from corelane.core.config import Bytes, Section
from corelane.core.types import StatedTask
from corelane.data.column_config import ColumnConfig

FileFormat: TypeAlias = Literal["auto", "csv", "parquet", "arrow", "jsonl", "npz", "idx", "images"]

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]

ColumnName = Annotated[str, Field(min_length=1)]


def parse_share(value: object) -> object:
    """Turn `"0.5 %"` into 0.005; whatever is no such text is left for pydantic to judge."""
    match = _PERCENT.match(value) if isinstance(value, str) else None
    return value if match is None else float(match[1]) / 100


Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0.0, le=1.0)]
"""A share from 0 to 1 that also accepts `0.5 %`."""

_PERCENT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")
_DATABASE_SCHEME = re.compile(r"^(postgresql|postgres|sqlite|mysql|mariadb|oracle|mssql)(\+[a-z0-9_]+)?$")


class FileSystemConfig(Section):
    """Rows from files: a file, a folder, a glob, or any URL that fsspec opens (`s3://bucket/rows.parquet`)."""

    type: Literal["filesystem"] = "filesystem"
    path: str = Field(
        min_length=1, description="File, folder or glob, relative to the configuration file's folder, or a URL"
    )
    format: FileFormat = Field(
        default="auto", description="What the path holds; auto looks at the name and the first bytes"
    )
    labels: str | None = Field(default=None, description="IDX only: the file with the labels; relative like path")
    delimiter: str = Field(default=",", description="CSV only: the one ASCII character that separates cells")
    root: str | None = Field(
        default=None, description="Local files must lie below this folder, links followed; without it below path's own"
    )
    storage_options: dict[str, Any] = Field(
        default={}, description="URLs only: options of the file system, such as endpoint_url; ${NAME} is read at start"
    )
    batch_rows: int = Field(default=32_768, ge=1, le=1_000_000, description="At most this many rows are read at a time")

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, delimiter: str) -> str:
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise ValueError(f"must be one ASCII character other than a quote or a line break, got {delimiter!r}")
        return delimiter


class DatabaseConfig(Section):
    """Rows of a table, or of a query, of a database: PostgreSQL and SQLite directly, others through SQLAlchemy."""

    type: Literal["database"] = "database"
    url: str = Field(
        min_length=1,
        description="postgresql://user@host/name, sqlite:///file.db, or an SQLAlchemy URL; ${NAME} is read at start",
    )
    table: str | None = Field(default=None, min_length=1, description="The table or view, schema.table if need be")
    columns: list[str] | None = Field(default=None, min_length=1, description="With table: the columns to read; all")
    query: str | None = Field(default=None, min_length=1, description="One SELECT in place of table; values as :name")
    parameters: dict[str, str | int | float | bool | None] = Field(
        default={}, description="With query: the values bound to its :names"
    )
    key: list[str] = Field(
        default=[],
        description="Columns that are unique, never change, and put the rows in order; else no cursor resume",
    )
    version_column: str | None = Field(
        default=None, description="A column whose largest value moves whenever a row is added or changed"
    )
    connect_timeout_s: float = Field(default=10.0, gt=0.0, le=3600.0, description="Longest wait for a connection")
    statement_timeout_s: float = Field(
        default=300.0, gt=0.0, le=86_400.0, description="Longest wait for a statement's next rows; not with SQLite"
    )
    max_retries: int = Field(default=5, ge=0, le=100, description="Reconnections in a row before the read fails")
    batch_rows: int = Field(default=8192, ge=1, le=1_000_000, description="At most this many rows are read at a time")

    @model_validator(mode="after")
    def _check_selection(self) -> DatabaseConfig:
        if (self.table is None) == (self.query is None):
            raise ValueError(f"must have either table or query, got {'neither' if self.table is None else 'both'}")
        if self.parameters and self.query is None:
            raise ValueError("must have no parameters without a query, got some")
        if self.columns is not None and self.table is None:
            raise ValueError("must have columns only with table, got them with a query")
        return self


class PagingConfig(Section):
    """How a JSON API that answers page by page leads to the next page: by a link, or by a cursor to send back."""

    records: str = Field(
        default="", description="Path of the list of rows in a page, such as data.items; empty: itself"
    )
    next_link: str | None = Field(
        default=None, description="Path of the next page's URL in a page, or `header` for the Link header"
    )
    next_cursor: str | None = Field(default=None, description="Path of the cursor in a page, sent back as cursor_param")
    cursor_param: str = Field(default="cursor", min_length=1, description="The query parameter that carries the cursor")
    max_pages: int = Field(default=100_000, ge=1, description="More pages are an error")

    @model_validator(mode="after")
    def _check_next(self) -> PagingConfig:
        if (self.next_link is None) == (self.next_cursor is None):
            raise ValueError("must have either next_link or next_cursor")
        return self


class HTTPConfig(Section):
    """Rows from a URL: a file in any format that the file system reads, or the pages of a JSON API."""

    type: Literal["http"] = "http"
    url: str = Field(min_length=1, max_length=8192, description="https://... ; http:// only where allow_http says so")
    format: FileFormat = Field(default="auto", description="What the URL holds; auto looks at the name and the bytes")
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="CSV only: what separates cells")
    paging: PagingConfig | None = Field(default=None, description="For a JSON API that answers in pages")
    headers: dict[str, str] = Field(
        default={}, description="Sent to the URL's own origin only; ${NAME} is read at start, so secrets stay outside"
    )
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="The content must have this digest")
    connect_timeout_s: float = Field(default=10.0, gt=0.0, description="Longest wait for a connection")
    idle_timeout_s: float = Field(default=30.0, gt=0.0, description="Longest silence while an answer is read")
    total_timeout_s: float = Field(default=3600.0, gt=0.0, description="Longest time for everything, retries included")
    min_bytes_per_s: int = Field(default=1024, ge=0, description="A slower answer, over 10 s, is broken off")
    max_bytes: Bytes = Field(default=10 << 30, ge=1, description="A larger answer, unpacked or not, is refused")
    max_retries: int = Field(default=5, ge=0, le=100, description="Failures in a row before the read fails")
    allow_http: bool = Field(default=False, description="Whether plain http:// may be used")
    allow_private: list[str] = Field(
        default=[], description="Host names or addresses that may be private, loopback or link-local"
    )
    ca_file: str | None = Field(default=None, description="Certificates (PEM) to trust besides the system's")
    insecure_tls: bool = Field(default=False, description="Accept any certificate; said in the log at every use")
    batch_rows: int = Field(default=8192, ge=1, le=1_000_000, description="At most this many rows travel at a time")


class MemoryConfig(Section):
    """Rows given in Python, or written out in the configuration when they are few."""

    type: Literal["memory"] = "memory"
    rows: list[dict[str, Any]] = Field(default=[], description="The rows, one mapping of column to value each")
    batch_rows: int = Field(default=8192, ge=1, le=1_000_000, description="At most this many rows travel at a time")


def source_values(uri: str) -> dict[str, Any]:
    """The mapping that a source written as one URI stands for.

    `https://...` is `http`; `postgresql://host/db#table`, `sqlite:///file.db#table` and other `dialect+driver://` URLs
    are `database`; anything else is a path, a glob or a URL of `filesystem`.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme in ("http", "https"):
        return {"type": "http", "url": uri}
    if separator and _DATABASE_SCHEME.match(scheme):
        url, _, table = uri.partition("#")
        return {"type": "database", "url": url, "table": table or None}
    return {"type": "filesystem", "path": uri}


def _expand_uri(value: Any) -> Any:
    return source_values(value) if isinstance(value, str) else value


SourceConfig = Annotated[
    Annotated[FileSystemConfig | DatabaseConfig | HTTPConfig | MemoryConfig, Field(discriminator="type")],
    BeforeValidator(_expand_uri),
]
"""One source; a plain text stands for the source that `source_values` reads in it."""


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
    target: ColumnName | Annotated[list[ColumnName], Field(min_length=1)] = Field(
        description="The column to predict; a list of columns that hold 0 or 1 (false or true) is multi_label"
    )
    task: Literal["auto"] | StatedTask = Field(
        default="auto",
        description="binary, multi_class, multi_label or regression; classification is binary or multi_class by the "
        "number of labels; auto decides by the target",
    )
    positive: str | bool | int | None = Field(
        default=None, description="Binary: the label that counts as positive; without it the last one in order"
    )
    separator: str | None = Field(
        default=None, min_length=1, description="Multi-label: what separates the labels in one text column, such as ;"
    )
    columns: dict[str, ColumnConfig] = Field(default={}, description="What is known of single columns")
    exclude: list[str] = Field(default=[], description="Columns to leave out")
    split: SplitConfig = Field(default=SplitConfig(), description="How rows are divided")
    deduplicate: bool | Annotated[list[str], Field(min_length=1)] = Field(
        default=False, description="Training: later copies of a row, in all columns or in these, are left out"
    )
    max_rejected: Share = Field(
        default=0.05, description="Largest share of rejected rows, 0.005 or 0.5 %; more is an error"
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target columns, in order."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @property
    def is_multi_label(self) -> bool:
        """Whether a row may have several labels."""
        return isinstance(self.target, list) or self.separator is not None

    @field_validator("target", "exclude", "deduplicate")
    @classmethod
    def _check_named_once(cls, names: str | bool | list[str]) -> str | bool | list[str]:
        if isinstance(names, list) and len(set(names)) != len(names):
            raise ValueError(f"must name each column once, got {names}")
        return names

    @model_validator(mode="after")
    def _check_task(self) -> DataConfig:
        is_list, task = isinstance(self.target, list), self.task
        if (is_list or self.separator is not None) and task not in ("auto", "multi_label"):
            raise ValueError(f"task must be multi_label where a row has several labels, got {task!r}")
        if is_list and self.separator is not None:
            raise ValueError("must have either several target columns or a separator, got both")
        if task == "multi_label" and not is_list and self.separator is None:
            raise ValueError(
                f"target must be several columns for multi_label, or have a separator, got {self.target!r}"
            )
        if self.positive is not None and (self.is_multi_label or task not in ("auto", "classification", "binary")):
            raise ValueError(f"positive must be left out for another task than binary, got {self.positive!r}")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> DataConfig:
        for name in self.targets:
            if name in self.exclude:
                raise ValueError(f"exclude must not name the target, got {name!r}")
        for name in sorted(set(self.columns) & set(self.exclude)):
            said = self.columns[name].model_fields_set - {"unique", "on_fault"}
            if said or not self.columns[name].unique:
                raise ValueError(f"columns must not declare what exclude leaves out, but for unique, got {name!r}")
        return self


class ImageConfig(Section):
    """How images enter the network."""

    size: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="Height and width to resize to; without it all images must have the size of the first"
    )
    channels: Literal[1, 3] | None = Field(default=None, description="Grey or colour; without it as the first image is")
    fit: Literal["stretch", "crop", "pad"] = Field(
        default="stretch", description="With size: stretch, cut off what stands out, or put background around"
    )
    crop: float = Field(
        default=1.0, gt=0.0, le=1.0, description="With size: share of height and width kept around the middle, first"
    )
    background: Literal["white", "black"] = Field(
        default="white", description="What lies behind transparent pixels and around padded images"
    )
    normalise: Literal["standardise", "unit", "none"] = Field(
        default="standardise", description="By the training pixels' mean and deviation per channel, to 0..1, or 0..255"
    )
    mean: list[Annotated[float, Field(ge=0.0, le=1.0)]] | None = Field(
        default=None, min_length=1, max_length=3, description="With std: a known mean per channel, of pixels in 0..1"
    )
    std: list[Annotated[float, Field(gt=0.0, le=1.0)]] | None = Field(
        default=None, min_length=1, max_length=3, description="With mean: a known deviation per channel"
    )

    @model_validator(mode="after")
    def _check_together(self) -> ImageConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("must have both mean and std, or neither, got one of them")
        if self.mean is not None and self.normalise != "standardise":
            raise ValueError(f"normalise must be left out with mean and std, got {self.normalise!r}")
        if self.size is None and (self.fit != "stretch" or self.crop != 1.0):
            raise ValueError("fit and crop must be left out without a size to resize to, got one of them")
        return self


NumberScaling: TypeAlias = Literal[
    "standardise", "min_max", "robust", "quantile", "quantile_normal", "log", "normalise", "none"
]
CategoryEncoding: TypeAlias = Literal["one_hot", "ordinal", "hashing"]
DatePartName: TypeAlias = Literal[
    "elapsed", "year", "month", "day", "day_of_year", "weekday", "is_weekend", "hour", "minute"
]
Imputation: TypeAlias = Literal["median", "mean", "mode", "constant"]
_HASH_BUCKETS = Field(ge=1, le=65_536)
_DATE_PARTS = Field(min_length=1)


class PipelineColumnConfig(Section):
    """What is different for one column; what is left out is as the pipeline says."""

    numeric: NumberScaling | None = Field(default=None, description="Numbers and tensors: the scaling")
    categorical: CategoryEncoding | None = Field(default=None, description="Categories: the encoding")
    hash_buckets: Annotated[int, _HASH_BUCKETS] | None = Field(default=None, description="With hashing: how many")
    impute: Imputation | None = Field(
        default=None, description="What stands for a missing value; categories (mode, constant): the unknown bucket"
    )
    fill_value: Annotated[float, Field(allow_inf_nan=False)] | str | None = Field(
        default=None, description="With impute: constant: the number, or the category's text"
    )
    date: Annotated[list[DatePartName], _DATE_PARTS] | None = Field(default=None, description="Dates: the parts")

    @field_validator("date")
    @classmethod
    def _check_parts(cls, date: list[DatePartName] | None) -> list[DatePartName] | None:
        return None if date is None else _distinct_parts(date)

    @model_validator(mode="after")
    def _check_fill_value(self) -> PipelineColumnConfig:
        if (self.fill_value is not None) != (self.impute == "constant"):
            raise ValueError(f"must have a fill_value with impute: constant and only then, got {self.fill_value!r}")
        return self


class PipelineConfig(Section):
    """How checked rows become tensors."""

    numeric: NumberScaling = Field(
        default="standardise",
        description="Zero mean and unit deviation; the range 0 to 1 (min_max); median and quartiles (robust); ranks as "
        "0..1 (quantile) or as a normal distribution; logarithm, standardised; each row of unit length (normalise)",
    )
    impute: Imputation = Field(default="median", description="What stands for a missing number")
    fill_value: float = Field(default=0.0, allow_inf_nan=False, description="The number used by impute: constant")
    missing_indicator: bool = Field(
        default=False, description="One more feature per number or date column: 1 where the value was missing"
    )
    categorical: CategoryEncoding = Field(default="one_hot", description="How categories become numbers")
    max_categories: int = Field(default=100, ge=1, le=100_000, description="Rarer categories share the unknown bucket")
    hash_buckets: Annotated[int, _HASH_BUCKETS] = Field(default=64, description="Features of a hashed category column")
    date: Annotated[list[DatePartName], _DATE_PARTS] = Field(
        default=["elapsed", "month", "weekday", "hour"], description="What is taken from a date"
    )
    cyclic_dates: bool = Field(
        default=True, description="Month, day, weekday, hour, minute as sine and cosine, so that the ends meet; or 0..1"
    )
    image: ImageConfig = Field(default=ImageConfig(), description="How images are brought to one shape")
    columns: dict[str, PipelineColumnConfig] = Field(default={}, description="What is different for single columns")

    @field_validator("date")
    @classmethod
    def _check_parts(cls, date: list[DatePartName]) -> list[DatePartName]:
        return _distinct_parts(date)

    @model_validator(mode="after")
    def _check_fill_value(self) -> PipelineConfig:
        if self.fill_value != 0.0 and self.impute != "constant":
            raise ValueError(f"fill_value must be left out unless impute is constant, got {self.fill_value}")
        return self


def _distinct_parts(parts: list[DatePartName]) -> list[DatePartName]:
    if len(set(parts)) < len(parts):
        raise ValueError(f"must name each part once, got {parts}")
    return parts
