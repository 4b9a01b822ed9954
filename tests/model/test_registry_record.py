"""A registry's record as a value: what aliases name and named, and what may not be archived, removed or promoted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.core.errors import ConfigError, NotFoundError, RegistryError
from corelane.model.registry_record import MAX_HISTORY, Record, check_alias, parse_record, write_record


def promoted(*versions: int) -> Record:
    record = Record()
    for now_s, version in enumerate(versions):
        record = record.promoted("champion", version, float(now_s))
    return record


def test_an_alias_remembers_what_it_named() -> None:
    """The last first when it is rolled back, step by step, and then nothing is left to go back to."""
    record = promoted(1, 2, 3)
    assert record.alias("champion").model_dump() == {"version": 3, "since_s": 2.0, "before": (1, 2)}
    record = record.rolled_back("champion", {1, 2, 3}, 9.0)
    assert record.alias("champion").model_dump() == {"version": 2, "since_s": 9.0, "before": (1,)}
    record = record.rolled_back("champion", {1, 2, 3}, 10.0)
    assert record.alias("champion").version == 1
    with pytest.raises(ConfigError, match="must have named another version that is still there"):
        record.rolled_back("champion", {1, 2, 3}, 11.0)


def test_a_rollback_passes_over_what_is_gone_or_not_offered() -> None:
    """A version that was removed, archived or marked is no place to go back to."""
    record = promoted(1, 2, 3, 4, 5).with_archived(4, 0.0).with_deleted(3, 0.0)
    assert record.rolled_back("champion", {1, 3, 4, 5}, 9.0).alias("champion").version == 1


def test_promoting_what_serves_changes_nothing() -> None:
    """Neither its time nor its history."""
    record = promoted(1, 2)
    assert record.promoted("champion", 2, 99.0) is record


def test_the_history_is_bounded() -> None:
    """However often an alias moves, it remembers the last twenty."""
    record = promoted(*range(1, 100))
    assert record.alias("champion").before == tuple(range(99 - MAX_HISTORY, 99))


@pytest.mark.parametrize("change", ["with_archived", "with_deleted"])
def test_what_an_alias_names_stays(change: str) -> None:
    """It can be neither archived nor deleted, and the message names the alias."""
    record = promoted(1).promoted("challenger", 1, 0.0)
    with pytest.raises(ConfigError, match="got 1, which is challenger, champion"):
        getattr(record, change)(1, 5.0)


@pytest.mark.parametrize("change", ["with_archived", "with_deleted"])
def test_what_is_not_offered_is_not_promoted_until_it_is_restored(change: str) -> None:
    """An archived or deleted version can be taken back, and promoted then."""
    record = getattr(promoted(1, 2), change)(1, 5.0)
    with pytest.raises(ConfigError, match="must be offered to be promoted"):
        record.promoted("champion", 1, 6.0)
    assert record.restored(1).promoted("champion", 1, 6.0).alias("champion").version == 1


def test_a_removal_that_has_begun_is_not_taken_back() -> None:
    """It is due at its time; once it has begun it is due at any, and leaves no trace when it is done."""
    record = promoted(2).with_deleted(1, 10.0)
    assert (record.due(9.9), record.due(10.0)) == ([], [1])
    going = record.going([1])
    assert going.due(0.0) == [1]
    for change in (lambda: going.restored(1), lambda: going.with_deleted(1, 99.0), lambda: going.with_archived(1, 0.0)):
        with pytest.raises(ConfigError, match="being removed"):
            change()
    assert going.gone([1]) == promoted(2)


@pytest.mark.parametrize("name", ["", "Champion", "3", "a b", "../x", "x" * 33, "-x", "é"])
def test_odd_aliases_are_refused(name: str) -> None:
    """Lower-case letters, digits, _ and -, and a letter first: no alias reads like a version or a path."""
    with pytest.raises(ConfigError, match="an alias must be"):
        check_alias(name)


def test_an_alias_that_is_not_set_is_told_with_those_that_are() -> None:
    """So that a typing error is seen."""
    with pytest.raises(NotFoundError, match=r"one that is set \(champion\), got 'champoin'"):
        promoted(1).alias("champoin")
    assert promoted(1).promoted("x", 1, 0.0).without_alias("x") == promoted(1)


@given(st.lists(st.tuples(st.sampled_from(["promoted", "archived", "deleted"]), st.integers(1, 5)), max_size=30))
def test_what_is_written_is_read(changes: list[tuple[str, int]]) -> None:
    """Whatever was done to a record, its file says the same."""
    record = Record()
    for change, version in changes:
        try:
            if change == "promoted":
                record = record.promoted("champion", version, 1.5)
            else:
                record = getattr(record, f"with_{change}")(version, 2.5)
        except ConfigError:
            continue
    assert parse_record(write_record(record), "file") == record


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must be a registry's record as JSON"),
        (b"{" * 100_000, "must be a registry's record as JSON"),
        (b"[]", "must have format_version 1, got None"),
        (b'{"format_version": 2}', "must have format_version 1, got 2; use the release"),
        (b'{"format_version": 1, "aliases": {"champion": {"version": 0, "since_s": 0}}}', "got one that is not"),
        (b'{"format_version": 1, "aliases": {"../x": {"version": 1, "since_s": 0}}}', "got one that is not"),
        (b'{"format_version": 1, "other": 1}', "got one that is not"),
    ],
)
def test_what_is_no_record_is_refused(content: Any, says: str) -> None:
    """Torn, altered or of another release: the message names the file and says what to do."""
    with pytest.raises(RegistryError, match=says) as caught:
        parse_record(content, "models/m/record/7.json")
    assert caught.value.message.startswith("models/m/record/7.json must")


def test_the_file_is_readable() -> None:
    """Plain JSON with sorted keys."""
    content = json.loads(write_record(promoted(1, 2).with_archived(1, 5.0)))
    assert content == {
        "format_version": 1,
        "aliases": {"champion": {"version": 2, "since_s": 1.0, "before": [1]}},
        "archived": {"1": 5.0},
        "deleted": {},
    }
