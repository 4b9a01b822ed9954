"""`model.description`: package.json says only what we know, and is refused otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corelane.core.errors import BundleError, ConfigError
from corelane.model.description import (
    Description,
    Graph,
    Provenance,
    check_name,
    read_description,
    write_description,
)
from corelane.model.signature import Signature
from corelane.model.skew import Tolerance
from tests.model import examples


def description() -> Description:
    return Description(
        name="sample",
        version=3,
        task="classification",
        signature=Signature.of(examples.mixed().pipeline),
        architecture={"net": "custom"},
        metrics={"accuracy": 0.98},
        graphs={"fp32": Graph(file="graphs/fp32.onnx", tolerance=Tolerance(1e-4, 1e-3))},
        provenance=Provenance(
            corelane="1",
            torch="2",
            onnx="3",
            data_fingerprint={"strength": "none", "digest": "x"},
            config_digest="y",
            created="2026-01-01T00:00:00Z",
        ),
    )


def rewritten(path: Path, change: dict[str, Any]) -> Path:
    write_description(path, description())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return path


def test_what_is_read_equals_what_was_written(tmp_path: Path) -> None:
    """Signature, graphs and provenance survive the file."""
    write_description(tmp_path / "package.json", description())
    assert read_description(tmp_path / "package.json") == description()


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_an_unknown_format_version_is_refused(version: object, tmp_path: Path) -> None:
    """Before anything else is looked at, with advice."""
    path = rewritten(tmp_path / "package.json", {"format_version": version, "name": 7})
    with pytest.raises(BundleError, match=r"must have format_version 1, got .*; use the release of Corelane"):
        read_description(path)


@pytest.mark.parametrize(
    "file",
    [
        "../../etc/passwd",
        "graphs/../../secret.onnx",
        "/etc/passwd.onnx",
        "graphs//fp32.onnx",
        "graphs/a/b.onnx",
        "fp32.onnx",
        "graphs/..onnx",
        "graphs/fp32.onnx\n",
        "graphs\\fp32.onnx",
        "",
    ],
)
def test_a_graph_outside_its_folder_is_refused(file: str, tmp_path: Path) -> None:
    """A graph's file is graphs/<name>.onnx and nothing else, however it is spelled."""
    graphs = {"fp32": {"file": file, "tolerance": {"absolute": 1e-4, "relative": 1e-3}}}
    with pytest.raises(BundleError, match=r"for graphs\.fp32\.file"):
        read_description(rewritten(tmp_path / "package.json", {"graphs": graphs}))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../other"},
        {"version": 0},
        {"task": "clustering"},
        {"graphs": {}},
        {"code": "import os"},
        {"metrics": {"accuracy": "high"}},
        {"signature": {"inputs": []}},
    ],
)
def test_what_is_unknown_or_of_another_kind_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """A key we do not know or a value we cannot read is a BundleError that says which."""
    with pytest.raises(BundleError, match=r"package\.json must be a package description, got .* for "):
        read_description(rewritten(tmp_path / "package.json", change))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(content: bytes, tmp_path: Path) -> None:
    """Empty, cut, binary or endlessly nested content is a BundleError too."""
    path = tmp_path / "package.json"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"package\.json must be"):
        read_description(path)


@pytest.mark.parametrize("name", ["digits", "a", "Fashion-MNIST_2.1", "x" * 64])
def test_good_names(name: str) -> None:
    """Letters, digits and _.- make a name."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\n", "é", "x" * 65, "a\x00"])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    """What would leave the folder, hide in it or need escaping in a URL is a ConfigError."""
    with pytest.raises(ConfigError, match="a package's name must be"):
        check_name(name)
