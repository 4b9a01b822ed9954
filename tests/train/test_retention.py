"""Which checkpoints stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corelane.train.retention import Retention

LOSSES = {100: 0.9, 200: 0.3, 300: 0.5, 400: None, 500: 0.3, 600: 0.7, 700: 0.8}


def test_newest_best_and_every() -> None:
    """The newest by number, the best by loss (of equal ones the later), and the regular ones."""
    assert Retention(last=2).stays(LOSSES) == {600, 700}
    assert Retention(last=1, best=2).stays(LOSSES) == {700, 500, 200}
    assert Retention(last=1, every=300).stays(LOSSES) == {700, 300, 600}


@given(
    st.dictionaries(st.integers(1, 50), st.none() | st.floats(0, 1), max_size=12),
    st.sets(st.integers(1, 50)),
    st.builds(Retention, last=st.integers(0, 4), best=st.integers(0, 3), every=st.integers(0, 5)),
)
def test_two_whole_ones_are_never_given_up(
    losses: dict[int, float | None], broken: set[int], retention: Retention
) -> None:
    """Whatever is asked and broken: of the whole ones at least two are left, or all that there are."""
    whole = losses.keys() - broken
    left = losses.keys() - retention.doomed(losses, lambda step: step in whole)
    assert len(left & whole) >= min(2, len(whole))
    assert retention.stays(losses) <= left
