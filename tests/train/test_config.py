"""The `train` section: what is refused, and which settings a resumed run may change."""

from __future__ import annotations

import pytest

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError
from corelane.train.config import TrainConfig


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("weight_decay", -0.1),
        ("clip_norm", 0.0),
        ("warmup_fraction", 1.0),
        ("scheduler", "step"),
        ("keep_checkpoints", 1),
        ("early_stopping_patience", 0),
        ("max_retries", -1),
        ("label_smoothing", 1.0),
        ("class_weights", "equal"),
        ("class_weights", {}),
        ("class_weights", {"a": 0.0}),
        ("epoch", 3),
    ],
)
def test_what_cannot_work_is_refused(setting: str, value: object) -> None:
    """A setting out of bounds, or unknown, is an error that names it."""
    with pytest.raises(ConfigError, match=setting):
        validate_config({setting: value}, TrainConfig)


def test_labels_are_texts() -> None:
    """YAML reads some labels as numbers and booleans; weights find them all the same."""
    for given, read in (({0: 2, 1: 5.0}, {"0": 2.0, "1": 5.0}), ({False: 1, "yes": 4}, {"false": 1.0, "yes": 4.0})):
        config = validate_config({"class_weights": given}, TrainConfig)
        assert config.class_weights == read
        assert validate_config(config.model_dump(mode="json"), TrainConfig) == config


def test_the_digest_follows_what_changes_the_run() -> None:
    """Saving more often is the same run; another learning rate or log interval is not."""
    digest = TrainConfig().digest
    assert TrainConfig(save_interval=5, keep_checkpoints=9, max_retries=0).digest == digest
    assert TrainConfig(learning_rate=2e-3).digest != digest
    assert TrainConfig(log_interval=10).digest != digest
