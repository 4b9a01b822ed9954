"""Whole steps of a learner: micro-batches, optimisers, clipping, averages and frozen parts in real runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError, InterruptedRunError
from corelane.train.config import TrainConfig
from corelane.train.learner import Learner
from corelane.train.losses import CrossEntropy
from corelane.train.plan import Candidate
from corelane.train.record import StepRecord
from corelane.train.step import pieces
from corelane.train.timing import StopWatch
from tests.train.examples import classification, dropout_net, picture_net, pictures, run, weights


def learner(module: nn.Module, micro_batch_size: int = 32, **settings: Any) -> Learner:
    return Learner(
        TrainConfig(**settings),
        module,
        CrossEntropy(3),
        candidate=Candidate(threads=1),
        total_steps=10,
        micro_batch_size=micro_batch_size,
        watch=StopWatch(SystemClock()),
    )


def asked_after(steps: int) -> Callable[[], bool]:
    """A `should_stop` that says yes after that many steps."""
    left = iter(range(steps, -1, -1))
    return lambda: next(left) == 0


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.parametrize("micro_batch_size", [1, 5, 16])
def test_pieces_add_up_to_the_batch(micro_batch_size: int) -> None:
    """A batch in pieces, some one row shorter, gives the loss, the norm and the weights of the whole one."""
    values = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
    target = torch.arange(32) % 3
    whole, cut = learner(plain_net()), learner(plain_net(), micro_batch_size)
    for _ in range(5):
        expected, got = whole.step(([values], target)), cut.step(([values], target))
        torch.testing.assert_close(got.loss, expected.loss)
        torch.testing.assert_close(got.gradient_norm, expected.gradient_norm)
    for name, tensor in whole.module.state_dict().items():
        torch.testing.assert_close(cut.module.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def batch_norm_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def test_no_piece_of_a_batch_is_left_with_one_row() -> None:
    """Pieces differ by one row at most: 32 rows by 31 are two of 16, which batch norm takes."""
    sizes = [len(target) for _, target in pieces(([torch.zeros(65, 8)], torch.zeros(65)), 8)]
    assert sizes == [8, 8, 7, 7, 7, 7, 7, 7, 7]
    assert learner(batch_norm_net(), 31).step(([torch.randn(32, 8)], torch.arange(32) % 3)).was_taken


@pytest.mark.parametrize(("num_rows", "micro_batch_size"), [(1, 32), (32, 1)])
def test_one_row_for_batch_norm_is_told(num_rows: int, micro_batch_size: int) -> None:
    """Batch norm over a single row is an error of the configuration, which says what to raise."""
    batch = [torch.randn(num_rows, 8)], torch.zeros(num_rows, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"two rows at once, got 1; raise train\.batch_size"):
        learner(batch_norm_net(), micro_batch_size).step(batch)


def test_both_clippings_hold() -> None:
    """The values are clipped first, and what is left is shortened to the norm; the reported norm is before both."""
    net, values = plain_net(), 100 * torch.ones(4, 8)
    one = learner(net, optimizer="sgd", momentum=0.0, weight_decay=0.0, learning_rate=1.0, scheduler="constant",
                  clip_value=0.5, clip_norm=1.0)  # fmt: skip
    before = torch.nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    norm = one.step(([values], torch.zeros(4, dtype=torch.int64))).gradient_norm
    moved = torch.nn.utils.parameters_to_vector(net.parameters()).detach() - before
    assert float(norm) > 1.0
    assert moved.norm().item() == pytest.approx(1.0, rel=1e-4)
    assert moved.abs().max().item() < 0.5


def test_a_network_without_parameters_to_train_is_refused() -> None:
    """Frozen whole, or without any: the error says so."""
    with pytest.raises(ConfigError, match="parameters to train"):
        learner(plain_net(), freeze=["*"])


SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.05, "clip_value": 0.1},
    "average": {"ema_decay": 0.9, "learning_rate": 0.01},
    "frozen": {"freeze": ["0.*", "1.*"], "learning_rate": 0.01},
    "micro-batches": {"micro_batch_size": 10, "ema_decay": 0.5},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_each_way_learns_and_resumes_exactly(tmp_path: Path, case: str) -> None:
    """With each setting a run broken off and resumed ends with the bytes of one that was not."""
    data = pictures()
    calm, broken = picture_net(), picture_net()
    expected = run(tmp_path / "calm", data, calm, **SETTINGS[case])
    for step in (3, 4, 6):
        with pytest.raises(InterruptedRunError):
            run(tmp_path / "broken", data, broken, resume=True, should_stop=asked_after(step), **SETTINGS[case])
        broken = picture_net(seed=step)
    result = run(tmp_path / "broken", data, broken, resume=True, **SETTINGS[case])
    assert weights(broken) == weights(calm)
    assert result.metrics == expected.metrics
    assert (tmp_path / "broken/metrics.jsonl").read_bytes() == (tmp_path / "calm/metrics.jsonl").read_bytes()


def test_frozen_parts_do_not_move(tmp_path: Path) -> None:
    """After a whole run the frozen convolution and the statistics behind it are those of the start."""
    net, fresh = picture_net(), picture_net()
    run(tmp_path / "run", pictures(), net, freeze=["0.*", "1.*"])
    now, then = weights(net), weights(fresh)
    assert {name for name in now if now[name] != then[name]} == {"5.weight", "5.bias", "8.weight", "8.bias"}


def test_the_average_is_what_is_kept(tmp_path: Path) -> None:
    """With an average, the weights of the result are not those of the last step, and there without validation too."""
    data = classification(parts=(1.0, 1.0))
    plain, averaged = dropout_net(), dropout_net()
    run(tmp_path / "plain", data, plain, save_interval=1000)
    run(tmp_path / "averaged", data, averaged, save_interval=1000, ema_decay=0.99)
    assert weights(plain) != weights(averaged)


def test_observers_see_every_step(tmp_path: Path) -> None:
    """A caller's function gets one record a step, in order, with what the history says."""
    seen: list[StepRecord] = []
    result = run(tmp_path / "run", classification(), dropout_net(), observers=[seen.append])
    assert [record.step for record in seen] == list(range(1, result.num_steps + 1))
    assert all(record.loss > 0 and record.gradient_norm > 0 and record.num_rows == 32 for record in seen)
    assert seen[0].time <= seen[-1].time
    with pytest.raises(AttributeError):
        seen[0].loss = 0.0  # type: ignore[misc]
