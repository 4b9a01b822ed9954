"""What a data section may say, and what it is told when it says something else."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError
from corelane.data.config import DataConfig, FileSystemConfig, MemoryConfig, PipelineConfig

SOURCE = {"type": "filesystem", "path": "rows.csv"}


def test_defaults_are_those_promised() -> None:
    """A source and a target are enough."""
    config = validate_config({"source": SOURCE, "target": "y"}, DataConfig)
    assert isinstance(config.source, FileSystemConfig)
    assert (config.source.format, config.task, config.test) == ("auto", "auto", None)
    assert (config.split.validation, config.split.test, config.split.num_folds) == (0.1, 0.2, None)
    assert config.max_rejected == 0.05
    pipeline = PipelineConfig()
    assert (pipeline.numeric, pipeline.impute, pipeline.categorical) == ("standardise", "median", "one_hot")


def test_several_targets() -> None:
    """One name, several, and labels in one text."""
    one, several, joined = (
        validate_config({"source": SOURCE, **given}, DataConfig)
        for given in ({"target": "y"}, {"target": ["p", "q"]}, {"target": "y", "separator": ";"})
    )
    assert (one.targets, several.targets, joined.targets) == (("y",), ("p", "q"), ("y",))
    assert (one.is_multi_label, several.is_multi_label, joined.is_multi_label) == (False, True, True)


def test_the_type_chooses_the_source() -> None:
    """`type: memory` takes rows written in the configuration."""
    config = validate_config({"source": {"type": "memory", "rows": [{"a": 1}]}, "target": "a"}, DataConfig)
    assert isinstance(config.source, MemoryConfig)
    assert config.source.rows == [{"a": 1}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": {"type": "ftp", "path": "x"}}, "filesystem"),
        ({"source": {**SOURCE, "formt": "csv"}}, "did you mean 'format'"),
        ({"source": {**SOURCE, "format": "xls"}}, "'csv'"),
        ({"source": {**SOURCE, "delimiter": "ab"}}, "must be one ASCII character"),
        ({"source": {**SOURCE, "delimiter": '"'}}, "must be one ASCII character"),
        ({"source": {**SOURCE, "delimiter": "é"}}, "must be one ASCII character"),
        ({"source": {**SOURCE, "batch_rows": 0}}, "batch_rows"),
        ({"target": ""}, "target"),
        ({"target": "y", "exclude": ["y"]}, "must not name the target"),
        ({"target": ["p", "q"], "exclude": ["q"]}, "must not name the target, got 'q'"),
        ({"target": []}, "target"),
        ({"target": ["p", "p"]}, "each column once"),
        ({"target": ["p", "q"], "task": "binary"}, "must be multi_label where a row has several labels"),
        ({"target": ["p", "q"], "separator": ";"}, "either several target columns or a separator"),
        ({"task": "multi_label"}, "several columns for multi_label, or have a separator"),
        ({"separator": ";", "task": "regression"}, "must be multi_label where a row has several labels"),
        ({"positive": "a", "task": "multi_class"}, "positive must be left out"),
        ({"positive": "a", "separator": ";"}, "positive must be left out"),
        ({"exclude": ["a", "a"]}, "each column once"),
        ({"exclude": ["a"], "columns": {"a": {"kind": "numeric"}}}, "must not declare what exclude leaves out"),
        ({"split": {"test": 1.0}}, "less than 1"),
        ({"split": {"fold": 1}}, "fold must be less than num_folds"),
        ({"split": {"num_folds": 5, "fold": 5}}, "fold must be less than num_folds"),
        ({"max_rejected": 1.5}, "less than or equal to 1"),
        ({"max_rejected": "150 %"}, "less than or equal to 1"),
        ({"max_rejected": "many"}, "max_rejected"),
        ({"deduplicate": []}, "deduplicate"),
        ({"deduplicate": ["a", "a"]}, "each column once"),
        ({"exclude": ["a"], "columns": {"a": {"on_fault": "drop"}}}, "must not declare what exclude leaves out"),
    ],
)
def test_what_cannot_be_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    """Each wrong value is named with what it must be."""
    with pytest.raises(ConfigError, match=words):
        validate_config({"source": SOURCE, "target": "y", **change}, DataConfig)


@pytest.mark.parametrize(
    ("given", "share"), [("0.5 %", 0.005), ("100%", 1.0), (" 2 % ", 0.02), (0.25, 0.25), ("0.1", 0.1)]
)
def test_a_share_may_be_written_in_percent(given: Any, share: float) -> None:
    """`max_rejected` is a number from 0 to 1, or a text in percent."""
    config = validate_config({"source": SOURCE, "target": "y", "max_rejected": given}, DataConfig)
    assert config.max_rejected == pytest.approx(share)


def test_an_excluded_column_may_be_unique() -> None:
    """An identifier is no feature, and its values may have to differ all the same."""
    columns = {"id": {"unique": True, "on_fault": "drop"}}
    config = validate_config({"source": SOURCE, "target": "y", "exclude": ["id"], "columns": columns}, DataConfig)
    assert config.columns["id"].unique


def test_a_fill_value_without_effect_is_refused() -> None:
    """`fill_value` belongs to `impute: constant`."""
    with pytest.raises(ConfigError, match="fill_value must be left out unless impute is constant, got 3"):
        validate_config({"fill_value": 3.0}, PipelineConfig)
    assert validate_config({"fill_value": 3.0, "impute": "constant"}, PipelineConfig).fill_value == 3.0
