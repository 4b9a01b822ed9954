"""Records: what may be a name or a value, and what never reaches a database."""

import json
import math

import pytest

from corelane.core.errors import ConfigError
from corelane.store.metadata_records import MAX_TEXT, Metric, document, stored_text, without_secrets
from tests.store.metadata_examples import dataset, run


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_metrics_are_finite(value: float) -> None:
    """No database has to store what it may not compare."""
    with pytest.raises(ConfigError, match="must be a finite number"):
        Metric("loss", 1, 0, value)


@pytest.mark.parametrize("name", ["", "1loss", "a" * 101, "loss\n", "loss;", "потеря"])
def test_metric_names_are_checked(name: str) -> None:
    """A name is short, printable and begins with a letter."""
    with pytest.raises(ConfigError, match="a metric's name must match"):
        Metric(name, 1, 0, 0.0)
    with pytest.raises(ConfigError, match="a metric's name must match"):
        run(metrics={name: 1.0})


@pytest.mark.parametrize(("field", "value"), [("name", "../a"), ("name", ".a"), ("name", "a" * 129), ("key", "xyz")])
def test_run_names_and_keys_are_checked(field: str, value: str) -> None:
    """What cannot name a directory names no run."""
    with pytest.raises(ConfigError, match="rename it"):
        run(**{field: value})


def test_a_data_set_is_known_by_its_content() -> None:
    """The same rows through the same schema are one data set; any difference makes another."""
    assert dataset().key == dataset().key
    others = [
        dataset(digest="ac"),
        dataset(source={}),
        dataset(schema={}),
        dataset(profile={}),
        dataset(strength="stat"),
    ]
    assert len({other.key for other in [dataset(), *others]}) == 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:geheim@host/db", "postgresql://…@host/db"),
        ("postgresql://ann:ge@heim@host/db", "postgresql://…@host/db"),
        ("postgresql://ann:ge/heim@host/db", "postgresql://…@host/db"),
        ("cannot read https://host/rows.csv?token=geheim, stopped", "cannot read https://host/rows.csv?… stopped"),
        ("host=db password=geheim user=ann", "host=db password=… user=ann"),
        ("password: 'geheim'", "password: '…'"),
        ("s3://bucket/rows.parquet", "s3://bucket/rows.parquet"),
        ("/data/rows.csv", "/data/rows.csv"),
    ],
)
def test_secrets_stay_outside(text: str, shown: str) -> None:
    """Passwords, user names and queries of URLs are cut out of whatever is stored."""
    assert without_secrets(text) == shown


def test_texts_and_documents_are_bounded() -> None:
    """A message or a schema of any size leaves something of bounded size behind, and says that it was cut."""
    assert len(stored_text("x" * 10 * MAX_TEXT)) == MAX_TEXT
    assert json.loads(document({"a": "x" * 100}, limit=50)) == {"omitted_bytes": 108}
    assert json.loads(document({"a": "\0ü\udcff"})) == {"a": "\0ü\udcff"}
