"""What the `data.columns` section of a configuration may say of one column: its kind, its limits and its rules.

It only declares and checks what can be checked without the data; `infer.py` and `rules.py` act on it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from corelane.core.config import Section

ColumnKind = Literal["numeric", "categorical", "date", "tensor", "image"]


class ColumnConfig(Section):
    """What is known of one column; what is left out is inferred from the data."""

    kind: ColumnKind | None = Field(default=None, description="How the column is understood")
    nullable: bool | None = Field(default=None, description="Whether a value may be missing; a missing one rejects")
    minimum: float | None = Field(default=None, description="Numeric only: the smallest number there is")
    maximum: float | None = Field(default=None, description="Numeric only: the largest number there is")
    outside: Literal["reject", "clip", "missing"] | None = Field(
        default=None, description="With minimum or maximum: what becomes of a number beyond; reject"
    )
    categories: list[str] | None = Field(
        default=None, min_length=1, description="Categorical only: the values there are; another rejects the row"
    )
    pattern: str | None = Field(
        default=None, description="Categorical only: a regular expression (RE2) that a whole text must match"
    )
    trim: bool | None = Field(
        default=None, description="Categorical only: whether spaces around a text are taken away; true"
    )
    unreadable: Literal["reject", "missing"] | None = Field(
        default=None, description="What becomes of a cell that the column cannot take, bounds aside; reject"
    )
    unique: bool = Field(
        default=False, description="Training: a second row with the same value is rejected; excluded columns may say so"
    )
    on_fault: Literal["quarantine", "drop"] = Field(
        default="quarantine",
        description="Training: a row at fault in this column is quarantined, or left out and only counted",
    )
    shape: list[Annotated[int, Field(ge=1)]] | None = Field(
        default=None, min_length=1, description="Tensor: the shape of one element; image: height, width, channels"
    )

    vocabulary: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Tensor of shape [length]: its elements are tokens, whole numbers from 0 to below this",
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> ColumnConfig:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum must be at most maximum, got {self.minimum} and {self.maximum}")
        return self

    @model_validator(mode="after")
    def _check_rules(self) -> ColumnConfig:
        if self.outside is not None and self.minimum is None and self.maximum is None:
            raise ValueError(f"outside must be left out without a minimum or a maximum, got {self.outside!r}")
        if self.pattern is not None and self.categories is not None:
            raise ValueError("must have either categories or a pattern, got both")
        if self.nullable is False and "missing" in (self.outside, self.unreadable):
            raise ValueError("outside and unreadable must not be missing where nullable is false, got one that is")
        return self
