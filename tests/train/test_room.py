"""Choosing how many rows go through the network at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from corelane.core.errors import MemoryBudgetError
from corelane.train.micro_batch import FILE, recorded_rows
from corelane.train.room import WORKING_SHARE, Line, activation_line, fitting
from tests.train.examples import picture_net, pictures, run, weights


def test_the_whole_batch_where_it_fits() -> None:
    """Memory enough for a batch leaves it whole."""
    assert fitting(Line(0.0, 10.0), 64, 640) == 64


def test_equal_pieces_where_it_does_not() -> None:
    """Too large a batch is cut into the fewest pieces that fit, all of about the same size."""
    assert fitting(Line(100.0, 10.0), 64, 100 + 300) == 22  # three pieces of at most 30


def test_no_room_for_one_row_is_told() -> None:
    """A row that does not fit is an error with both numbers and the remedy."""
    with pytest.raises(MemoryBudgetError, match=r"110 bytes, got 90; raise machine\.memory"):
        fitting(Line(100.0, 10.0), 64, 90)


def test_the_prediction_counts_what_backward_needs() -> None:
    """A linear layer with ReLU keeps its input, and its output, which the ReLU keeps too: by hand, per row."""
    net = nn.Sequential(nn.Linear(1000, 500), nn.ReLU(), nn.Linear(500, 10))
    sample = ([torch.randn(8, 1000)], torch.zeros(8, dtype=torch.int64))
    line = activation_line(net, cross_entropy, sample)
    kept = 4 * (1000 + 500 + 10) + 8  # input, hidden values, log-probabilities; the target
    assert line.row_bytes == pytest.approx(WORKING_SHARE * kept, rel=0.05)


def test_probes_change_nothing() -> None:
    """Statistics, random numbers and weights are afterwards what they were."""
    net = picture_net()
    before, state = weights(net), torch.get_rng_state()
    sample = ([torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))], torch.zeros(8, dtype=torch.int64))
    activation_line(net, cross_entropy, sample)
    assert weights(net) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_run_in_little_memory_goes_in_pieces(tmp_path: Path) -> None:
    """With little room the run records smaller pieces with the reason, keeps them on resume, and still learns."""
    result = run(tmp_path / "run", pictures(), picture_net(), room_bytes=150_000, learning_rate=0.02)
    kept = json.loads((tmp_path / "run" / FILE).read_text())
    assert 1 < kept["rows"] < 32
    assert kept["because"].startswith("a batch of 32 would take")
    assert recorded_rows(tmp_path / "run") == kept["rows"]
    assert result.num_steps == 20
