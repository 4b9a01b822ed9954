"""`model.card`: the page about a package for people."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from corelane.data.schema import Column, Schema
from corelane.model.card import render_card
from corelane.model.description import read_description
from corelane.model.signature import Signature
from tests.model import examples


def test_card_says_what_the_package_says(tmp_path: Path) -> None:
    """Name, version, columns, outputs, metrics and provenance of package.json are on it."""
    path = examples.publish(tmp_path, examples.mixed())
    card = (path / "card.md").read_text("utf-8")
    assert card == render_card(read_description(path / "package.json"))
    for words in ("# sample, version 1", "| island | BYTES | rows |", "| probabilities | FP32 | rows x 3 |"):
        assert words in card
    for words in ("| accuracy | 0.5 |", "| Created | 2025-06-15T15:06:40Z |", "| Data fingerprint | content 0000"):
        assert words in card


def test_a_columns_name_cannot_write_markdown(tmp_path: Path) -> None:
    """A name with pipes, tags or line breaks stays one cell of text."""
    name = "a|b <script>\n# c `d` [e](f)"
    raw = pa.RecordBatch.from_arrays([pa.array([1.0, 2.0, 3.0, 4.0]), pa.array(list("xyxy"))], names=[name, "y"])
    schema = Schema((Column(name, "numeric"),), (Column("y", "categorical", nullable=False),), "classification")
    path = examples.publish(tmp_path, examples.mixed())
    signature = Signature.of(examples.example(schema, raw).pipeline)
    card = render_card(read_description(path / "package.json").model_copy(update={"signature": signature}))
    assert r"| a\|b \<script\> \# c \`d\` \[e\](f) | FP64 | rows |" in card
