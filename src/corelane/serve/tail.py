"""How long runs take at worst, by their number of rows, and how far the pace at load is off: corrected by each run.

Rows are put into buckets of 1, 2, 3 to 4, 5 to 8 and so on. A bucket's high quantile is followed by stochastic
approximation (Robbins and Monro, 1951; as in Ma, Muthukrishnan and Sandler, "Frugal Streaming", 2013): it rises by a
step's share q when a run takes longer and falls by 1 - q when it does not, so that it settles where a share q of the
runs is shorter. A step is a share of the estimate itself, which follows a machine that becomes slower.
"""

from __future__ import annotations

from corelane.serve.pace import Pace

QUANTILE = 0.99
MARGIN = 1.5  # above the pace at load, before anything was seen
STEP = 0.1  # of the estimate
FORGET = 0.1  # weight of a run in the average of how far the pace is off
MOST_OFF = 1000.0  # a pace that was measured by a timer's tick must not forbid everything


class TailModel:
    """Owns the estimates for one model and nothing else; an update allocates nothing. Not to be shared by threads."""

    def __init__(self, pace: Pace, batch_size: int, quantile: float = QUANTILE) -> None:
        self._pace = pace
        self._up, self._down = STEP * quantile, STEP * (1 - quantile)
        self._high_s = [MARGIN * pace.expected_s(1 << bucket) for bucket in range(_bucket(batch_size) + 1)]
        self._full_row_s = pace.expected_s(batch_size) / batch_size
        self.slowness = 1.0
        self.longest_s = max(self._high_s)
        """Of `high_s`, for any number of rows."""

    def ran(self, num_rows: int, seconds: float) -> None:
        """A run of `num_rows` rows took so long."""
        bucket = min(_bucket(num_rows), len(self._high_s) - 1)
        high_s = self._high_s[bucket]
        self._high_s[bucket] = high_s * (1 + self._up if seconds > high_s else 1 - self._down)
        self.longest_s = max(self._high_s)
        off = seconds / max(self._pace.expected_s(num_rows), 1e-9)
        self.slowness = min(self.slowness + FORGET * (off - self.slowness), MOST_OFF)

    def high_s(self, num_rows: int) -> float:
        """Seconds within which nearly all runs of `num_rows` rows, up to a batch, end."""
        return self._high_s[min(_bucket(num_rows), len(self._high_s) - 1)]

    def expected_s(self, num_rows: int) -> float:
        """Seconds that a run of `num_rows` rows takes on average, as the machine is now."""
        return self.slowness * self._pace.expected_s(num_rows)

    def drain_s(self, num_rows: int) -> float:
        """Seconds in which `num_rows` rows that wait are run, in full batches."""
        return num_rows * self.slowness * self._full_row_s


def _bucket(num_rows: int) -> int:
    return (num_rows - 1).bit_length()
