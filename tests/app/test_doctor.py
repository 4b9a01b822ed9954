"""The dry run is of the user's data as it is, and says what failed."""

from pathlib import Path

from corelane.app.doctor import examine


def _config(folder: Path, rows: list[str]) -> Path:
    (folder / "rows.csv").write_text("\n".join(["size,kind", *rows]) + "\n")
    config = folder / "config.yaml"
    config.write_text(
        "name: a\ndata: {source: {type: filesystem, path: rows.csv}, target: kind}\nmodel: {hidden: [4]}\n"
    )
    return config


def test_sorted_data_is_healthy(tmp_path: Path) -> None:
    """A file sorted by its label gives a sample with every label in it."""
    rows = [f"{index % 7},{'small' if index < 3000 else 'large'}" for index in range(6000)]
    report = examine(_config(tmp_path, rows))
    assert report["healthy"], report["checks"]


def test_the_first_failure_ends_the_list_with_its_reason(tmp_path: Path) -> None:
    """Data with one class only fails where the pipeline is fitted, and nothing after that is tried."""
    report = examine(_config(tmp_path, [f"{index},same" for index in range(50)]))
    assert not report["healthy"]
    assert list(report["checks"])[-1] == "pipeline fits"
    assert "two different labels" in report["checks"]["pipeline fits"]
