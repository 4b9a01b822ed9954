"""Packages made to harm whoever opens them, with checksums that are right: refused, and nothing in them is run or read
outside.

The command that scores with the package is run, in a process whose memory is limited, as a user would.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from corelane.core.errors import BundleError
from corelane.model.package import KIND, ModelPackage
from corelane.store.bundle import MANIFEST, write_bundle
from tests.model import examples

MEMORY_BYTES = 4 << 30
GRAPH, WEIGHTS = "graphs/fp32.onnx", "weights.safetensors"
Change = Callable[[Path], None]


class Payload:
    """What a pickle can do to whoever loads it: here it leaves a file."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self._place),)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of two numeric columns and three labels."""
    return examples.publish(tmp_path_factory.mktemp("original"), examples.matrix(2, 3))


def forged(original: Path, target: Path, change: Change) -> Path:
    """A copy with something changed, whose manifest is right about it."""
    with write_bundle(target, KIND) as path:
        shutil.copytree(original, path, dirs_exist_ok=True)
        (path / MANIFEST).unlink()
        change(path)
    return target


def refused(package: Path, folder: Path) -> str:
    """Score with the package; the one line of the error. It must be one of ours, soon, and in little memory."""
    (folder / "rows.csv").write_text("x0,x1\n1,2\n")
    done = subprocess.run(
        [sys.executable, "-m", "corelane", "predict", str(package), "--input", "rows.csv", "--output", "out.csv"],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60.0,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
    )
    assert done.returncode in {1, 2}, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "out.csv").exists()
    return done.stderr


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, "golden.arrow", "pipeline.json", "package.json"])
def test_a_pickle_in_a_files_place_is_never_loaded(original: Path, tmp_path: Path, name: str) -> None:
    """F1: Every file is read as what it must be; nothing unpickles."""
    owned = tmp_path / "owned"

    def change(path: Path) -> None:
        (path / name).write_bytes(pickle.dumps(Payload(owned)))

    package = forged(original, tmp_path / "forged", change)
    if name == WEIGHTS:
        with pytest.raises(BundleError, match="must be safetensors"):
            ModelPackage.load(package).weights()
    else:
        assert name in refused(package, tmp_path)
    assert not owned.exists()


@pytest.mark.parametrize("name", ["model.pkl", "graphs/custom_ops.so", "code/__init__.py"])
def test_a_file_that_nothing_reads_is_refused(original: Path, tmp_path: Path, name: str) -> None:
    """F1, F9, F10: No code, library or other model travels in a package, listed in its manifest or not."""

    def change(path: Path) -> None:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(b"x")

    assert f"{name} must not be in a package" in refused(forged(original, tmp_path / "forged", change), tmp_path)


def linked(path: Path) -> None:
    (path / "card.md").unlink()
    (path / "card.md").symlink_to("/etc/passwd")


def linked_folder(path: Path) -> None:
    shutil.rmtree(path / "graphs")
    (path / "graphs").symlink_to("/etc")


def piped(path: Path) -> None:
    (path / "card.md").unlink()
    os.mkfifo(path / "card.md")


def twice(path: Path) -> None:
    (path / "cafe\u0301.md").write_text("one")
    (path / "caf\u00e9.md").write_text("other")


@pytest.mark.parametrize("change", [linked, linked_folder, piped, twice])
def test_what_is_no_plain_file_of_its_own_is_refused(original: Path, tmp_path: Path, change: Change) -> None:
    """F2: Links, pipes and names that look alike are refused before anything behind them is opened."""
    package = Path(shutil.copytree(original, tmp_path / "forged"))
    change(package)
    assert "must" in refused(package, tmp_path)


@pytest.mark.parametrize("name", ["../outside.md", "/etc/passwd", "graphs/../../outside.md", ""])
def test_a_manifest_that_leads_outside_is_refused(original: Path, tmp_path: Path, name: str) -> None:
    """F2, F6: No name in a manifest is followed out of the package."""
    package = Path(shutil.copytree(original, tmp_path / "forged"))
    manifest = json.loads((package / MANIFEST).read_bytes())
    manifest["files"][name] = manifest["files"]["card.md"]
    (package / MANIFEST).write_bytes(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    assert "manifest" in refused(package, tmp_path)


DOUBLED = b'{"files":{},"files":{},"format_version":1,"kind":"package"}'


@pytest.mark.parametrize("text", [b"[" * 200_000, DOUBLED, b"{}", b"\xff\xfe", b"1e999"])
def test_a_manifest_that_is_none_is_refused(original: Path, tmp_path: Path, text: bytes) -> None:
    """F6: Deep, doubled, empty or unreadable JSON is one line."""
    package = Path(shutil.copytree(original, tmp_path / "forged"))
    (package / MANIFEST).write_bytes(text)
    assert "manifest" in refused(package, tmp_path)


@pytest.mark.parametrize("name", ["package.json", "pipeline.json"])
@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"_target_": "os.system"}', b"NaN"])
def test_json_that_is_none_of_ours_is_refused(original: Path, tmp_path: Path, name: str, text: bytes) -> None:
    """F6, F9: Depth costs no crash, and no name in it is imported."""

    def change(path: Path) -> None:
        (path / name).write_bytes(text)

    assert name in refused(forged(original, tmp_path / "forged", change), tmp_path)


def graph_with(**changes: object) -> onnx.ModelProto:
    """A graph with the ends that the package needs; `changes` may give it nodes, weights and operator sets."""
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [2, 3], np.eye(2, 3).ravel().tolist())]
    nodes = [helper.make_node("MatMul", ["features", "w"], ["logits"])]
    graph = helper.make_graph(
        changes.get("nodes", nodes),
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])],
        changes.get("weights", weights),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def external(location: str, **keys: str) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=value)
    return graph_with(weights=[tensor])


def huge() -> onnx.ModelProto:
    return graph_with(weights=[TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**6, 10**6])])


def huge_constant() -> onnx.ModelProto:
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [2, 3 * 10**11])
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["w"]),
        helper.make_node("MatMul", ["features", "w"], ["logits"]),
    ]
    return graph_with(nodes=nodes, weights=[shape])


def custom() -> onnx.ModelProto:
    return graph_with(nodes=[helper.make_node("System", ["features"], ["logits"], domain="evil")], weights=[])


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    "parent": lambda: external("../secret.bin"),
    "beside": lambda: external("secret.bin"),
    "winding": lambda: external("graphs/../../secret.bin"),
    "absolute": lambda: external("/etc/passwd"),
    "out of range": lambda: external("secret.bin", offset="1000000000000", length="24"),
    "memory address": lambda: external("*/_ORT_MEM_ADDR_/*", offset="4096", length="24"),
    "huge dimensions": huge,
    "huge constant": huge_constant,
    "custom operator": custom,
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_that_reaches_out_or_asks_too_much_is_refused(original: Path, tmp_path: Path, kind: str) -> None:
    """F3: Data outside the graph, addresses, impossible sizes and operators of others are an error, not a read."""
    (tmp_path / "secret.bin").write_bytes(np.eye(2, 3, dtype=np.float32).tobytes())

    def change(path: Path) -> None:
        (path / GRAPH).write_bytes(GRAPHS[kind]().SerializeToString())
        (path / "golden.arrow").unlink()  # it would be refused for its answers

    assert GRAPH in refused(forged(original, tmp_path / "forged", change), tmp_path)


def test_such_a_graph_is_refused_for_what_it_is(original: Path, tmp_path: Path) -> None:
    """The graph of these tests, without anything evil, is scored with: they are refused for the rest."""

    def change(path: Path) -> None:
        (path / GRAPH).write_bytes(graph_with().SerializeToString())
        (path / "golden.arrow").unlink()

    package = forged(original, tmp_path / "forged", change)
    assert ModelPackage.load(package).predictor().predict_rows([{"x0": 1.0, "x1": 2.0}])


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


ONE = b'"dtype":"F32","shape":[1],"data_offsets":'
WEIGHT_FILES = {
    "a header of 2^60 bytes": safetensors(b"{}", length=1 << 60),
    "a header longer than the file": safetensors(b"{}", length=1000),
    "data beyond the end": safetensors(b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'),
    "an overlap": safetensors(b'{"a":{' + ONE + b'[0,4]},"b":{' + ONE + b"[0,4]}}", bytes(4)),
    "a hole": safetensors(b'{"a":{' + ONE + b'[0,4]},"b":{' + ONE + b"[8,12]}}", bytes(12)),
    "an unknown type": safetensors(b'{"a":{"dtype":"PY","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "trailing bytes": safetensors(b'{"a":{' + ONE + b"[0,4]}}", bytes(400)),
}


@pytest.mark.parametrize("kind", WEIGHT_FILES)
def test_weights_that_are_not_where_they_say_are_refused(original: Path, tmp_path: Path, kind: str) -> None:
    """F5: The header is checked against the file before anything is allocated."""

    def change(path: Path) -> None:
        (path / WEIGHTS).write_bytes(WEIGHT_FILES[kind])

    with pytest.raises(BundleError, match="must be safetensors"):
        ModelPackage.load(forged(original, tmp_path / "forged", change)).weights()
