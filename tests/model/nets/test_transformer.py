"""`model.nets.transformer`: the encoder's layers, its benchmark size, and padding."""

from __future__ import annotations

import torch
from torch import nn

from corelane.model.nets.transformer import Layer, Transformer


def test_default_has_the_size_of_the_benchmarks_network() -> None:
    """Embedding 1000-128, 64 positions, two layers of torch's own size, linear 128-10."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, norm_first=True)
    expected = 1000 * 128 + 64 * 128 + 2 * sum(parameter.numel() for parameter in layer.parameters()) + 128 * 10 + 10
    net = Transformer(64, 10, vocabulary=1000)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected == 534_026


def test_a_layer_is_torchs_encoder_layer() -> None:
    """With the same weights it computes what `nn.TransformerEncoderLayer` with norm first does."""
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, norm_first=True, batch_first=True)
    ours = Layer(16, 4, 24, dropout=0.0)
    pairs = {
        "first_norm": theirs.norm1,
        "second_norm": theirs.norm2,
        "join": theirs.self_attn.out_proj,
        "widen": theirs.linear1,
        "narrow": theirs.linear2,
    }
    for name, part in pairs.items():
        getattr(ours, name).load_state_dict(part.state_dict())
    state = {"weight": theirs.self_attn.in_proj_weight, "bias": theirs.self_attn.in_proj_bias}
    ours.project.load_state_dict(state)
    x = torch.randn(3, 7, 16)
    torch.testing.assert_close(ours(x), theirs(x))


def test_padding_changes_nothing() -> None:
    """With `mask_padding` token 0 counts for nothing, wherever it is; a row of padding alone has a finite answer."""
    torch.manual_seed(0)
    net = Transformer(6, 3, vocabulary=10, width=8, num_heads=2, feed_forward=8, mask_padding=True)
    text = torch.tensor([[4, 5, 6, 0, 0, 0], [0, 0, 4, 5, 6, 0]])
    before = net(text)
    with torch.no_grad():
        net.embed.weight[0] = 9.0
    torch.testing.assert_close(net(text), before)
    assert bool(net(torch.zeros(1, 6, dtype=torch.int64)).isfinite().all())


def test_a_series_of_vectors_is_read_too() -> None:
    """Without a vocabulary each position is a feature vector, and order matters."""
    torch.manual_seed(0)
    net = Transformer(5, 2, vocabulary=None, num_features=3, width=8, num_heads=2, feed_forward=8, dropout=0.1).eval()
    series = torch.randn(4, 5, 3)
    assert net(series).shape == (4, 2)
    assert not torch.allclose(net(series), net(series.flip(1)))
