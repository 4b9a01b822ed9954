"""The `machine` section takes sizes in words and refuses what cannot be."""

from __future__ import annotations

import pytest

from corelane.core.config import parse_config
from corelane.core.errors import ConfigError
from corelane.machine.config import MachineConfig


def test_everything_may_be_left_out() -> None:
    """An empty section means: measure."""
    assert MachineConfig() == MachineConfig(threads=None, memory=None, cache=None)


def test_sizes_are_read_in_words() -> None:
    """`4GiB` is a number of bytes."""
    config = parse_config("{threads: 2, memory: 4GiB, cache: cache}", MachineConfig)
    assert (config.threads, config.memory, config.cache) == (2, 4 * 2**30, "cache")


@pytest.mark.parametrize("text", ["threads: 0", "threads: two", "memory: 0", "memory: much", "cache: ''", "thread: 2"])
def test_nonsense_is_refused(text: str) -> None:
    """No threads, no memory, no name, and unknown keys are errors that say what must be."""
    with pytest.raises(ConfigError, match="must be"):
        parse_config(text, MachineConfig)
