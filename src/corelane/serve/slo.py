"""A promise about latency in words, `p99=20ms`: the share of requests that must be answered within so many seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from corelane.core.errors import ConfigError

_FORM = re.compile(r"p(\d{1,2}(?:\.\d{1,2})?)=(\d{1,6}(?:\.\d{1,3})?)(us|ms|s)", re.ASCII)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Slo:
    """The share `quantile` of requests is answered within `seconds`."""

    quantile: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Slo:
        """The promise that `text` makes. Raises `ConfigError` for another form, and for what nobody can promise."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConfigError(f"the SLO must be like p99=20ms (us, ms or s), got {text[:40]!r}")
        quantile, seconds = float(match[1]) / 100, float(match[2]) * _UNITS[match[3]]
        if not 0.5 <= quantile < 1 or not 0 < seconds <= LONGEST_S:
            raise ConfigError(f"the SLO must be from p50 to p99.99, within at most {LONGEST_S:g} s, got {text!r}")
        return cls(quantile, seconds)
