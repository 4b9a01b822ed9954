"""The `observe` section: its defaults, and that it is closed."""

from __future__ import annotations

import pytest

from corelane.core.config import parse_config
from corelane.core.errors import ConfigError
from corelane.observe.config import ObserveConfig


def test_defaults_need_no_section() -> None:
    """Without a configuration, lines of level info and above are written in the form that fits the terminal."""
    assert ObserveConfig() == parse_config("", ObserveConfig)
    assert (ObserveConfig().log_level, ObserveConfig().log_format) == ("info", "auto")


@pytest.mark.parametrize("text", ["log_level: loud", "log_format: xml", "log_levle: info"])
def test_an_unknown_value_or_key_is_refused(text: str) -> None:
    """A level, form or key that does not exist is an error with its line."""
    with pytest.raises(ConfigError, match="<text>:1: log_"):
        parse_config(text, ObserveConfig)
