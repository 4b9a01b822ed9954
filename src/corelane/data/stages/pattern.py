"""Patterns that whole texts must match: RE2 expressions, the same in a column of millions and for one served value.

RE2 matches in time linear in the text, so no text from outside can make a match slow. Matching is Arrow's; the column
declares the pattern and `cast_text.py` asks here.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import ConfigError
from corelane.core.types import BoolArray

MAX_PATTERN_LENGTH = 1000  # characters; RE2 itself bounds what they may unfold into


def check_pattern(name: str, pattern: str) -> None:
    """Raise `ConfigError` unless `pattern`, of the column `name`, is a regular expression that RE2 takes."""
    if not 0 < len(pattern) <= MAX_PATTERN_LENGTH:
        raise ConfigError(
            f"the pattern of {name} must have 1 to {MAX_PATTERN_LENGTH} characters, got {len(pattern)}; shorten it"
        )
    for tried in (pattern, _whole(pattern)):  # by itself first: `a)|(b` would leave the brackets that anchor it
        try:
            pc.match_substring_regex(pa.array([""]), tried)
        except (pa.ArrowInvalid, UnicodeEncodeError) as error:
            reason = str(error).partition("regular expression: ")[2] or str(error)
            raise ConfigError(
                f"the pattern of {name} must be a regular expression that RE2 takes, got {pattern!r:.60}: {reason:.200}"
            ) from error


def matches(pattern: str, texts: pa.Array) -> BoolArray:
    """Which of `texts` [n] match `pattern` as a whole; a null does."""
    found = pc.fill_null(pc.match_substring_regex(texts, _whole(pattern)), True)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _whole(pattern: str) -> str:
    return rf"\A(?:{pattern})\z"
