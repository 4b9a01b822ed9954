"""Checkpoints that are broken, stale, foreign or malicious, and a disk that is slow: what a run makes of them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from corelane.core.errors import BundleError, ConfigError, StateError
from corelane.observe.log import SystemLogger
from corelane.store.bundle import MANIFEST, write_bundle
from corelane.train.retention import saved_steps
from corelane.train.state import TrainingStateManager
from tests.train.examples import classification, dropout_net, run, weights
from tests.train.test_state import Bench, manager, save


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {"cut": cut, "emptied": empty, "removed": Path.unlink}
SHARDS = ["model.safetensors", "optimizer.safetensors", "state.json", "history.jsonl", MANIFEST]


def interrupted(directory: Path) -> nn.Module:
    """A run that was stopped after twelve steps, with checkpoints of the steps 5, 10 and 12."""
    net = dropout_net()
    asked = iter([False] * 11 + [True])
    with pytest.raises(Exception, match="request to stop"):
        run(directory, classification(), net, should_stop=lambda: next(asked))
    assert saved_steps(directory / "checkpoints") == [5, 10, 12]
    return net


@pytest.mark.parametrize("shard", SHARDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_file_costs_its_steps_and_is_told(tmp_path: Path, shard: str, damage: str) -> None:
    """A5: cut, emptied or gone: an older checkpoint is used with a warning, the result says so, and its bytes are those
    of a run that nobody touched.
    """
    calm = dropout_net()
    run(tmp_path / "calm", classification(), calm)
    interrupted(tmp_path / "run")
    DAMAGES[damage](tmp_path / "run/checkpoints/12" / shard)
    log, net = io.StringIO(), dropout_net()
    result = run(tmp_path / "run", classification(), net, resume=True, logger=SystemLogger(stream=log))
    assert weights(net) == weights(calm)
    told = [json.loads(line) for line in log.getvalue().splitlines() if '"checkpoint_broken"' in line]
    assert [(line["level"], line["step"]) for line in told] == [("warning", 12)]
    assert [(note["event"], note["step"]) for note in result.notes] == [("checkpoint_broken", 12)]
    written = json.loads((tmp_path / "run/result.json").read_text())
    assert written["notes"] == list(result.notes)
    assert (tmp_path / "run/checkpoints/12.broken").is_dir()


def test_strict_fails_instead(tmp_path: Path) -> None:
    """A5: with `strict` the run ends with the file's name, and nothing is moved."""
    interrupted(tmp_path / "run")
    cut(tmp_path / "run/checkpoints/12/model.safetensors")
    with pytest.raises(BundleError, match=r"12/model\.safetensors"):
        run(tmp_path / "run", classification(), dropout_net(), resume=True, strict=True)
    assert saved_steps(tmp_path / "run/checkpoints") == [5, 10, 12]


def regions(data: bytes) -> list[int]:
    """Places all over a file: every byte of its start (header) and end, and 40 evenly in between."""
    return sorted(
        {
            *range(min(24, len(data))),
            *range(max(0, len(data) - 8), len(data)),
            *range(0, len(data), max(1, len(data) // 40)),
        }
    )


@pytest.mark.parametrize("shard", SHARDS)
def test_a_flipped_bit_anywhere_is_found(tmp_path: Path, shard: str) -> None:
    """A6: in headers, tensors, state and manifest: found by the checksum before a tensor reaches the network."""
    bench, state = Bench(), manager(tmp_path)
    save(state, bench, 1)
    path = state.checkpoint_dir / "1" / shard
    data = path.read_bytes()
    other = Bench(seed=1)
    before = weights(other.net)
    for number, place in enumerate(regions(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << number % 8]) + data[place + 1 :])
        with pytest.raises(BundleError):
            manager(tmp_path, strict=True).resume(*other.parts)
    assert weights(other.net) == before
    path.write_bytes(data)
    assert manager(tmp_path, strict=True).resume(*other.parts)


def forged(tmp_path: Path, change: Callable[[Path], None]) -> TrainingStateManager:
    """A folder whose only checkpoint was changed, its manifest fitting: hashes say nothing against it."""
    save(manager(tmp_path), Bench(), 1)
    source = tmp_path / "checkpoints/1"
    shutil.move(source, tmp_path / "source")
    (tmp_path / "source" / MANIFEST).unlink()
    change(tmp_path / "source")
    with write_bundle(source, "checkpoint") as folder:
        shutil.copytree(tmp_path / "source", folder, dirs_exist_ok=True)
    return manager(tmp_path, strict=True)


def changed_state(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_bytes())
        (folder / "state.json").write_text(json.dumps({**state, **values}))

    return change


@pytest.mark.parametrize("version", [1, 3, None, "2"])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    """A12: older and newer formats are named, also beside checkpoints that could be read."""
    with pytest.raises(StateError, match="must be a checkpoint of version 2"):
        forged(tmp_path, changed_state(version=version)).resume(*Bench().parts)


def test_another_network_is_refused_whole(tmp_path: Path) -> None:
    """A12: weights of another shape load nothing at all."""
    save(manager(tmp_path), Bench(), 1)
    other = Bench()
    other.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 5))
    other.optimizer = torch.optim.AdamW(other.net.parameters(), fused=True)
    before = weights(other.net)
    with pytest.raises(StateError, match=r"'3\.weight' must be float32 \[5, 16\]"):
        manager(tmp_path).resume(*other.parts)
    assert weights(other.net) == before


def test_another_torch_is_said_and_kept_in_words(tmp_path: Path) -> None:
    """A12: another version of torch: the run goes on, and the change is in its notes, warned of, and saved on."""
    environment = {"torch": "1.13.1", "architecture": "x86_64", "instructions": "AVX2", "threads": 64}
    state = forged(tmp_path, changed_state(environment=environment))
    bench = Bench()
    assert state.resume(*bench.parts)
    assert state.notes[0]["event"] == "resume_not_exact"
    assert state.notes[0]["changed"]["torch"].startswith("1.13.1 -> ")
    save(state, bench, 2)
    again = manager(tmp_path)
    assert again.resume(*Bench().parts)
    assert again.notes == state.notes


def stated(content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "state.json").write_bytes(content)

    return change


HOSTILE_STATES: dict[str, Callable[[Path], None]] = {
    "deep JSON": stated(b"[" * 200_000 + b"]" * 200_000),
    "a list": stated(b"[1, 2]"),
    "no counters": changed_state(counters={}),
    "counters of another kind": changed_state(counters={"nonsense": 1}),
    "a generator that is none": changed_state(random={"version": 1, "torch": "AAAA", "numpy": [], "python": []}),
    "an optimiser without tensors": changed_state(optimizer={"state": {"0": {"$tensor": "nowhere"}}}),
    "parts that this run has not": changed_state(parts={"surprise": {}}),
}


@pytest.mark.parametrize("name", HOSTILE_STATES)
def test_a_malicious_state_is_refused(tmp_path: Path, name: str) -> None:
    """A13: whatever a state holds under fitting hashes, it ends in an error of ours."""
    with pytest.raises((StateError, BundleError)):
        forged(tmp_path, HOSTILE_STATES[name]).resume(*Bench().parts)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """A13: NaN under a fitting hash."""

    def poison(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-4] + b"\xff\xff\xff\xff")

    with pytest.raises(BundleError, match="got NaN in"):
        forged(tmp_path, poison).resume(*Bench().parts)


def test_a_file_that_no_manifest_names_is_refused(tmp_path: Path) -> None:
    """A13: a pickle beside the tensors is never opened: the checkpoint is not whole with it."""
    save(manager(tmp_path), Bench(), 1)
    (tmp_path / "checkpoints/1/extra.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(BundleError, match=r"extra\.pkl must not be in this bundle"):
        manager(tmp_path, strict=True).resume(*Bench().parts)


@pytest.mark.parametrize("content", [None, "", "999", "../../etc", "\0\0"])
def test_a_pointer_to_the_latest_is_not_believed(tmp_path: Path, content: str | None) -> None:
    """A16: stale, garbage or absent: the newest whole checkpoint is found by looking."""
    bench, state = Bench(), manager(tmp_path)
    for step in (8, 9, 10):
        save(state, bench, step)
    if content is not None:
        (state.checkpoint_dir / "latest").write_text(content)
        (state.checkpoint_dir / "11").mkdir()
        (state.checkpoint_dir / "12").write_text(content)
    other = manager(tmp_path)
    assert other.resume(*Bench().parts)
    assert other.counters.step == 10


def test_a_directory_that_cannot_take_checkpoints_ends_before_step_0(tmp_path: Path) -> None:
    """A10: a file, or a link to nowhere, in the place of the folder: refused before a step is taken."""
    for name, make in {
        "file": lambda path: path.write_text("x"),
        "link": lambda path: path.symlink_to(tmp_path / "nowhere"),
    }.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name / "checkpoints")
        with pytest.raises(ConfigError, match="checkpoints must be a directory"):
            run(tmp_path / name, classification(), dropout_net())
        assert not (tmp_path / name / "metrics.jsonl").exists()
