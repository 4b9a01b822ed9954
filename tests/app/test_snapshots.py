"""Graphs from the cache: the same bytes as exported, for the same weights and net only."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corelane.app import package, snapshots, train
from corelane.app.snapshots import kept_export
from corelane.data.pipeline import TensorSpec
from corelane.model.config import ModelConfig
from corelane.model.export import export_graph
from corelane.model.nets.build import build
from corelane.store.bundle import verify_bundle
from corelane.store.tiers.disk import DiskTier

INPUTS = {"features": TensorSpec("float32", (4,))}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The modules that the exporter was asked for."""
    modules: list[Any] = []

    def noted(module: Any, inputs: Any) -> bytes:
        modules.append(module)
        return export_graph(module, inputs)

    monkeypatch.setattr(snapshots, "export_graph", noted)
    return modules


def test_equal_weights_are_exported_once(tmp_path: Path, exported: list[Any]) -> None:
    """The second time the graph comes from the cache; other weights or another net are exported."""
    config = ModelConfig(net="mlp", hidden=[3])
    net = build(config, INPUTS, 2, seed=0)
    first = kept_export(config, DiskTier(tmp_path))(net, INPUTS)
    assert first == export_graph(net, INPUTS)
    assert kept_export(config, DiskTier(tmp_path))(build(config, INPUTS, 2, seed=0), INPUTS) == first
    assert len(exported) == 1
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] += 1e-6
    assert kept_export(config, DiskTier(tmp_path))(net, INPUTS) != first
    assert len(exported) == 2


@pytest.mark.parametrize("library", ["corelane", "torch", "onnx", "onnx_ir", "onnxscript"])
def test_another_version_of_a_library_exports_anew(
    tmp_path: Path, exported: list[Any], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """Whichever of those that make the graph was updated, its graph is not taken for the new one's."""
    config = ModelConfig(net="mlp", hidden=[3])
    net = build(config, INPUTS, 2, seed=0)
    kept_export(config, DiskTier(tmp_path))(net, INPUTS)
    monkeypatch.setattr(snapshots, "version", lambda name: "0" if name == library else version(name))
    kept_export(config, DiskTier(tmp_path))(net, INPUTS)
    assert len(exported) == 2


def test_a_users_own_net_is_always_exported(tmp_path: Path) -> None:
    """Its configuration names an import path, and the code behind it may change."""
    assert kept_export(ModelConfig(net="package.module:Net"), DiskTier(tmp_path)) is snapshots.export_graph


def test_a_run_packaged_again_is_not_exported_again(tmp_path: Path, exported: list[Any]) -> None:
    """Two packages of one run hold the same graph, and both passed the gate; a run from Python is exported itself."""
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    config = {
        "name": "a",
        "data": {"target": "y"},
        "machine": {"cache": str(tmp_path / "cache")},
        "train": {"epochs": 1},
    }
    run = train(config, data={"x": x, "y": (x[:, 0] > 0).astype(int)}, runs=tmp_path / "runs", quiet=True)
    packages = [package(run.directory, directory=tmp_path / "packages") for _ in range(2)]
    assert len(exported) == 1
    graphs = {(path / "graphs" / "fp32.onnx").read_bytes() for path in packages}
    assert len(graphs) == 1
    (entry,) = (tmp_path / "cache" / "graphs").iterdir()
    verify_bundle(entry, "arrays")
