"""The declared instruments keep the naming rule and are listed in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from corelane.observe.instruments import AREAS, INSTRUMENTS, Instrument

PAGE = Path(__file__).parents[2] / "docs" / "observe.md"
each_instrument = pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=lambda one: one.name)


@each_instrument
def test_a_name_gives_area_unit_and_kind(instrument: Instrument) -> None:
    """`corelane_<area>_<what>_<unit>[_total]`: the unit is the one declared, `_total` is there for counters only."""
    assert re.fullmatch(rf"corelane_({'|'.join([*AREAS, 'cache'])})_[a-z0-9_]+", instrument.name)
    assert instrument.name.endswith("_total") == (instrument.kind == "counter")
    assert instrument.name.removesuffix("_total").endswith(f"_{instrument.unit}" if instrument.unit else "")


@each_instrument
def test_histograms_and_only_they_have_rising_buckets(instrument: Instrument) -> None:
    """A histogram's buckets are declared here, in rising order, and not left to a library's default."""
    assert (instrument.kind == "histogram") == bool(instrument.buckets)
    assert list(instrument.buckets) == sorted(set(instrument.buckets))


@each_instrument
def test_an_instrument_is_documented(instrument: Instrument) -> None:
    """Whoever reads a dashboard finds each name on the room's page."""
    assert f"`{instrument.name}`" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("area", AREAS)
def test_a_field_feeds_one_instrument(area: str) -> None:
    """A key of a record means one thing within its stream."""
    fields = [field for one in INSTRUMENTS.values() if one.area == area for field in one.fields]
    assert fields
    assert len(fields) == len(set(fields))
