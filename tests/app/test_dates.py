"""A column of dates goes the whole way: inferred, trained on, packaged behind the gate, and asked for as JSON."""

from __future__ import annotations

import csv
import datetime
from pathlib import Path

from corelane.app import load, package, train


def test_dates_from_csv_to_a_prediction(tmp_path: Path) -> None:
    """Whether a day is a weekend is learned from the date alone; texts, datetimes and null are answered."""
    first = datetime.datetime(2020, 1, 1, 8)
    days = [first + datetime.timedelta(days=index, minutes=index) for index in range(800)]
    with (tmp_path / "days.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["day", "rest"])
        writer.writerows([day.isoformat(" "), "yes" if day.weekday() >= 5 else "no"] for day in days)
    config = {
        "name": "days",
        "data": {"source": str(tmp_path / "days.csv"), "target": "rest"},
        "pipeline": {"date": ["weekday", "is_weekend"]},
        "train": {"epochs": 5},
        "machine": {"cache": str(tmp_path / "cache")},
    }
    run = train(config, runs=tmp_path / "runs", quiet=True)
    assert run.result.metrics["test_accuracy"] == 1.0
    with load(package(run, directory=tmp_path / "packages")) as model:
        answers = model.predict_rows(
            [
                {"day": "2024-06-01"},
                {"day": datetime.datetime(2024, 6, 3, 9)},
                {"day": "2024-06-02T10:00:00Z"},
                {"day": None},
            ]
        )
    assert [answer["label"] for answer in answers][:3] == ["yes", "no", "yes"]
