"""The plan of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from corelane.core.errors import StateError
from corelane.train.config import TrainConfig
from corelane.train.plan import Plan, choose_plan


def test_a_run_keeps_its_plan(tmp_path: Path) -> None:
    """The plan is on disk when it is chosen; asked again with another budget, the run's own plan comes back."""
    net = nn.Sequential(nn.Linear(2, 2))
    plan = choose_plan(tmp_path, TrainConfig(), net, num_threads=2)
    assert Plan.from_json(json.loads((tmp_path / "plan.json").read_text())) == plan
    assert choose_plan(tmp_path, TrainConfig(), net, num_threads=7) == plan
    assert plan.chosen.threads == 2
    assert plan.chosen in plan.candidates


def test_layout_follows_the_net_or_the_configuration(tmp_path: Path) -> None:
    """Images go channels last where there is a 2-d convolution, unless configured otherwise."""
    layouts = {}
    for name, net, memory_format in [
        ("linear", nn.Linear(2, 2), "auto"),
        ("convolution", nn.Conv2d(1, 2, 3), "auto"),
        ("as told", nn.Conv2d(1, 2, 3), "contiguous"),
    ]:
        config = TrainConfig(memory_format=memory_format)
        layouts[name] = choose_plan(tmp_path / name, config, net, num_threads=1).chosen.memory_format
    assert layouts == {"linear": "contiguous", "convolution": "channels_last", "as told": "contiguous"}


def test_the_key_tells_nets_and_budgets_apart(tmp_path: Path) -> None:
    """Another width, batch or budget is another key; the digest is of what was chosen only."""
    plans = [
        choose_plan(tmp_path / str(number), TrainConfig(batch_size=batch), nn.Linear(2, width), num_threads=threads)
        for number, (width, batch, threads) in enumerate([(2, 8, 1), (3, 8, 1), (2, 9, 1), (2, 8, 2)])
    ]
    assert len({plan.key for plan in plans}) == 4
    assert len({plan.digest for plan in plans}) == 2


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    """A plan of another release is not guessed at."""
    plan = choose_plan(tmp_path, TrainConfig(), nn.Linear(2, 2), num_threads=1)
    with pytest.raises(StateError, match="version"):
        Plan.from_json({**plan.to_json(), "version": 2})
