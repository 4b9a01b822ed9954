"""Tables and the confusion matrix."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from corelane.observe.drawing.tables import MAX_DATA_ROWS, chart_data, matrix, table
from corelane.observe.sections import Chart, Matrix, Series, Table


def test_numbers_stand_right_with_equal_decimals() -> None:
    """Numbers and quantities with a unit are aligned right, words and the first column left; None is a dash."""
    content = Table("Times", ("stage", "time", "share", "why"), [("a", 24.31, "58.9 %", "x"), ("b", 2.1, "5 %", None)])
    read = ElementTree.fromstring(table(content))
    cells = [(one.text, one.get("class")) for one in read.iter("td")]
    assert cells == [
        ("a", "text"),
        ("24.31", "number"),
        ("58.9 %", "number"),
        ("x", "text"),
        ("b", "text"),
        ("2.10", "number"),
        ("5 %", "number"),
        ("–", "text"),
    ]


def test_a_table_without_rows_keeps_its_head() -> None:
    """Nothing to show is shown as that."""
    read = ElementTree.fromstring(table(Table("Empty", ("a", "b"), [])))
    assert [one.text for one in read.iter("th")] == ["a", "b"]
    assert not list(read.iter("td"))


def test_matrix_cells_are_shaded_by_their_share_of_the_row() -> None:
    """A class of 4 rows is shaded like a class of 400; each cell says in words what it counts."""
    read = ElementTree.fromstring(matrix(Matrix("Confusion", ("cat", "dog"), ("cat", "dog"), [[3, 1], [0, 400]])))
    cells = list(read.iter("td"))
    assert [one.text for one in cells] == ["3", "1", "·", "400"]
    assert [re.sub("--share:", "", one.get("style", "")) for one in cells] == ["0.750", "0.250", "0.000", "1.000"]
    assert [one.get("class") for one in cells] == ["strong", "weak", "none", "strong"]
    assert cells[1].get("title") == "actual cat, predicted dog: 1 (25.0%)"


def test_an_empty_class_does_not_divide_by_zero() -> None:
    """A class without rows in the test part is a row of dots."""
    read = ElementTree.fromstring(matrix(Matrix("Confusion", ("a", "b"), ("a", "b"), [[0, 0], [0, 2]])))
    assert [one.text for one in read.iter("td")] == ["·", "·", "·", "2"]


def test_the_numbers_of_a_chart_are_there_to_read() -> None:
    """Under a chart stands its table: series side by side, a dash where one has no value, long ones picked evenly."""
    short = chart_data(Chart("Loss", "epoch", "loss", [Series("a", [1, 2], [0.5, 0.25]), Series("b", [2], [1.0])]))
    assert re.findall(r">([^<>]+)</td>", short) == ["1", "0.50", "–", "2", "0.25", "1"]
    long = chart_data(Chart("Loss", "step", "loss", [Series("a", range(1000), range(1000))]))
    assert long.count("<tr>") - 1 == MAX_DATA_ROWS + 1
    assert ">999</td>" in long
    assert "Numbers (41 of 1000 rows)" in long
