"""`model.nets.gru`: the recurrent network's shapes."""

from __future__ import annotations

import torch

from corelane.model.nets.gru import GRU


def test_default_has_the_size_of_the_benchmarks_network() -> None:
    """GRU 16-64 with its two biases, then linear 64-10."""
    net = GRU(16, 64, 1, 10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 3 * 64 * (16 + 64 + 2) + 64 * 10 + 10


def test_it_answers_after_the_last_position() -> None:
    """Logits are a linear map of the last hidden state, for any length."""
    net = GRU(3, 8, 2, 4, dropout=0.5).eval()
    for length in (1, 9):
        series = torch.randn(2, length, 3)
        _, last = net.layers(series)
        torch.testing.assert_close(net(series), net.output(last[-1]))
