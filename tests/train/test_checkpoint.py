"""One checkpoint on disk: everything comes back as it was, and nothing broken is taken."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from corelane.core.errors import BundleError, DiskFullError, StateError
from corelane.train.checkpoint import Snapshot, Weights, load_optimizer, read_checkpoint, state_tensors
from tests.train.examples import picture_net, weights

FILES = ["model.safetensors", "optimizer.safetensors", "best.safetensors", "history.jsonl", "state.json"]


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A convolutional net in channels_last after two steps of the fused optimiser."""
    net = picture_net().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    step(net, optimizer)
    step(net, optimizer)
    return net, optimizer


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(1)
    net(torch.ones(4, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def write_checkpoint(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    snapshot = Snapshot()
    snapshot.take(
        net.state_dict(),
        optimizer.state_dict(),
        weights=dict(net.named_parameters()),
        best=Weights.of(picture_net(seed=3)),
        history=b'{"kind": "step"}\n',
        state={"counters": {"step": 2}},
    )
    snapshot.write(path)


def test_training_goes_on_from_what_was_read(tmp_path: Path) -> None:
    """A step after reading gives the same bytes as a step without, weights and optimiser in channels_last."""
    net, optimizer = trained()
    write_checkpoint(tmp_path / "2", net, optimizer)
    read = read_checkpoint(tmp_path / "2")
    other = picture_net(seed=9).to(memory_format=torch.channels_last)
    again = torch.optim.AdamW(other.parameters(), lr=0.5, fused=True)
    read.model.load_into(other)
    load_optimizer(again, read.optimizer)
    for parameter, entry in again.state.items():
        assert entry["exp_avg"].stride() == parameter.stride()

    step(net, optimizer)
    step(other, again)
    assert weights(other) == weights(net)
    assert read.best is not None
    assert read.history == b'{"kind": "step"}\n'
    assert read.state == {"counters": {"step": 2}}


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    """One byte flipped, the end cut off, or a file gone: the checkpoint is refused and the file named."""
    net, optimizer = trained()
    write_checkpoint(tmp_path / "2", net, optimizer)
    path = tmp_path / "2" / name
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[:-1])
    # a manifest with another digest in it blames the file of that digest
    named = r"\.safetensors|\.json" if (name, damage) == ("manifest.json", "flip") else name
    with pytest.raises(BundleError, match=named):
        read_checkpoint(tmp_path / "2")


def test_weights_of_another_net_are_refused() -> None:
    """A missing, an additional, a reshaped and a retyped tensor are each named, and nothing is loaded."""
    net = nn.Linear(2, 3)
    before = weights(net)
    for tensors, message in [
        ({"weight": torch.zeros(3, 2)}, "'bias'"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "extra": torch.zeros(1)}, "'extra'"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(4)}, r"'bias' must be float32 \[3\].*got float32 \[4\]"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3).double()}, "'bias' must be float32"),
    ]:
        with pytest.raises(StateError, match=message):
            Weights(tensors).load_into(net)
    assert weights(net) == before


def test_an_optimisers_state_of_another_net_is_refused() -> None:
    """State with fewer parameters than the net has does not load."""
    small = torch.optim.AdamW(nn.Linear(2, 2).parameters(), fused=True)
    _, optimizer = trained()
    with pytest.raises(StateError, match="optimiser's state"):
        load_optimizer(optimizer, small.state_dict())


def test_tied_weights_and_a_state_that_is_no_tensor() -> None:
    """Two names of one tensor are both kept; a module's extra state, which may be any object, is refused by name."""
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert set(Weights.of(tied).tensors) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    with pytest.raises(StateError, match=r"'_extra_state'.*register_buffer"):
        state_tensors({"_extra_state": {"any": "object"}})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint of `trained` and not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.needs("mount")
def test_a_full_disk_says_how_much_it_takes(small_disk: Path) -> None:
    """The error tells bytes needed and free; the older checkpoint is whole and nothing half-written stays."""
    net, optimizer = trained()
    write_checkpoint(small_disk / "1", net, optimizer)
    with pytest.raises(DiskFullError, match=r"must have [\d,]+ bytes free for .*/2, got [\d,]+ .*--resume"):
        write_checkpoint(small_disk / "2", net, optimizer)
    assert [path.name for path in small_disk.iterdir()] == ["1"]
    read_checkpoint(small_disk / "1")
