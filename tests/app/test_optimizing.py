"""`optimize`, from a trained package to the version that is served and scored as this machine runs it best."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from corelane.app import load, optimize, package, predict, train
from corelane.app.optimizing_text import optimized_text
from corelane.app.planned import chosen_for
from corelane.app.plans import clear, compare, show
from corelane.app.plans_text import compared_text, plan_text
from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.model.candidate import OBJECTIVES, SAFE
from corelane.model.package import ModelPackage


def trained(folder: Path, **package_settings: object) -> Path:
    """A package of a small table, of which three columns say the label."""
    values = np.random.default_rng(0).normal(size=(600, 6))
    data = {f"x{index}": values[:, index] for index in range(6)}
    data["y"] = np.where(values[:, :3].sum(axis=1) > 0, "a", "b")
    config = {
        "name": "small",
        "data": {"target": "y"},
        "model": {"net": "mlp", "hidden": [32]},
        "train": {"epochs": 4},
        "package": package_settings,
        "machine": {"cache": str(folder / "cache"), "plan": "eager"},
    }
    return package(train(config, data=data, runs=folder / "runs", quiet=True), directory=folder / "packages")


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, JsonObject]:
    """The home of the cache, the package as it was, and what optimising it came to."""
    folder = tmp_path_factory.mktemp("optimized")
    path = trained(folder)
    return folder / "home", path, optimize(path, max_accuracy_drop=0.05, cache=folder / "home/corelane")


def test_a_package_is_optimised_and_the_plan_is_used(
    optimized: tuple[Path, Path, JsonObject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version holds the graphs, the first is untouched; its plans lie in the cache, for scoring too."""
    home, path, answer = optimized
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    package = ModelPackage.load(Path(answer["package"]))
    before = ModelPackage.load(path)
    assert (package.version, package.provenance.optimized_from) == (2, before.digest)
    assert set(before.graphs) == {"fp32"}
    assert {"fp32", "int8"} <= set(package.graphs)
    for objective in OBJECTIVES:
        assert str(chosen_for(package, objective)) == answer["plans"][objective]["chosen"]
        assert chosen_for(before, objective) is SAFE
    for one in answer["graphs"]:
        assert one["graph"] in optimized_text(answer)
    page = Path(answer["report"])
    assert "Quality over speed" in page.read_text()
    assert json.loads((page.parent / "decisions.json").read_text())["plans"] == answer["plans"]
    rows = tmp_path / "rows.csv"
    rows.write_text("x0,x1,x2,x3,x4,x5\n" + "1,1,1,0,0,0\n" * 40)
    assert predict(package.path, str(rows), tmp_path / "answers.csv")["rows"] == 40


def test_plans_of_a_package_are_shown_compared_and_cleared(optimized: tuple[Path, Path, JsonObject]) -> None:
    """Both plans by the package, each by its key; two are compared by name and time; cleared, they are gone."""
    home, _, answer = optimized
    path, cache = answer["package"], home / "corelane"
    shown = show(path, cache=cache)
    assert list(shown["plans"]) == list(OBJECTIVES)
    keys = [shown["plans"][objective]["key"] for objective in OBJECTIVES]
    assert show(keys[0], cache=cache) == shown["plans"]["latency"]
    assert "a call: chosen" in plan_text(shown)
    compared = compare(*keys, cache=cache)
    assert [plan["key"] for plan in compared["plans"]] == keys
    assert all(time > 0 for time in compared["candidates"][str(SAFE)])
    assert str(SAFE) in compared_text(compared)
    with pytest.raises(ConfigError, match="give a key"):
        compare(path, keys[0], cache=cache)
    assert clear(path, older_than_days=1, cache=cache)["removed"] == 0
    assert clear(path, cache=cache) == {"cache": str(cache / "plans"), "removed": 2, "left": 0}
    with pytest.raises(ConfigError, match="corelane optimize"):
        show(path, cache=cache)


def test_without_rows_there_is_nothing_to_judge_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that holds none is refused until it is given some; then it is optimised, and still holds none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    path = trained(tmp_path, include_rows=False)
    with pytest.raises(ConfigError, match="--data"):
        optimize(path)
    values = np.random.default_rng(1).normal(size=(200, 6))
    lines = [",".join(map(str, row.tolist())) + f",{'ab'[int(row[:3].sum() <= 0)]}" for row in values]
    (tmp_path / "judged.csv").write_text("\n".join(["x0,x1,x2,x3,x4,x5,y", *lines]))
    answer = optimize(path, data=str(tmp_path / "judged.csv"), max_accuracy_drop=0.05)
    assert answer["judged_rows"] == 200
    assert ModelPackage.load(Path(answer["package"])).holdout() is None
    with load(answer["package"]) as model:
        assert model.predict_rows([{f"x{index}": 1.0 for index in range(6)}])[0]["label"] == "a"


def test_a_drop_must_be_a_share(tmp_path: Path) -> None:
    """Half a point is 0.005, not 0.5 or 50."""
    with pytest.raises(ConfigError, match="give a share"):
        optimize(tmp_path, max_accuracy_drop=50)
