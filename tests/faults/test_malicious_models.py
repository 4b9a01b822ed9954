"""Foreign models made to harm whoever imports them: refused by a process with limits, and nothing is written.

The command is run as a user would, in a folder that holds a secret beside the model.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from corelane.core.errors import BundleError
from corelane.model.package import ModelPackage
from tests.faults.test_malicious_packages import Payload
from tests.model import examples
from tests.model.foreign import graphs
from tests.model.foreign.test_module import HERE, Two

ROOT = Path(__file__).parents[2]
LIMIT_S = 150.0
PEAK_BYTES = 700 << 20  # of the command, with torch; the process that looks at the file has a limit of its own

WATCHED = r"""
import re, runpy, sys
sys.argv = ["corelane", *sys.argv[1:]]
try:
    runpy.run_module("corelane", run_name="__main__")
finally:
    peak = re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]
    print(f"peak {int(peak) * 1024}", file=sys.stderr)
"""


def imported(folder: Path, *arguments: str) -> str:
    """Try to import a model; the one line of the error. Nothing may be written, and little memory used."""
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "import-model", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S + 60,
    )
    *lines, peak = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("corelane: ")
    assert int(peak.removeprefix("peak ")) < PEAK_BYTES
    assert sorted(folder.rglob("*")) == before
    return lines[0]


def zipped_pickle(folder: Path) -> bytes:
    torch.save({"w": torch.zeros(2)}, folder / "made.pt")
    content = (folder / "made.pt").read_bytes()
    (folder / "made.pt").unlink()
    return content


@pytest.mark.parametrize("name", ["model.onnx", "model.pkl", "model.bin"])
def test_a_pickle_is_never_loaded(tmp_path: Path, name: str) -> None:
    """F1: What a file is called decides nothing: it is ONNX, or it is refused."""
    owned = tmp_path / "owned"
    (tmp_path / name).write_bytes(pickle.dumps(Payload(owned)))
    assert "must be an ONNX file" in imported(tmp_path, name)
    assert not owned.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x89HDF\r\n\x1a\n" + bytes(500),
        b"<?xml version='1.0'?><!DOCTYPE net [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><net>&a;</net>",
        zipped_pickle,
    ],
    ids=["keras", "openvino-xxe", "torch"],
)
def test_other_formats_are_not_opened(tmp_path: Path, content: bytes | Callable[[Path], bytes]) -> None:
    """F1, F4: Keras, an OpenVINO IR with an external entity, a torch archive: no reader of theirs is called."""
    (tmp_path / "model.xml").write_bytes(content if isinstance(content, bytes) else content(tmp_path))
    assert "must be an ONNX file" in imported(tmp_path, "model.xml")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (graphs.external("secret.bin"), "must be in the file"),
        (graphs.external("../secret.bin"), "must be in the file"),
        (graphs.external("a/../../secret.bin"), "must be in the file"),
        (graphs.external("{folder}/secret.bin"), "must be in the file"),
        (graphs.external("link.bin"), "must be in the file"),
        (graphs.external("secret.bin", offset=2**40, length=2**40), "must be in the file"),
        (graphs.external("*/_ORT_MEM_ADDR_/*", offset=140_000_000_000), "must be in the file"),
        (graphs.branch_with_external("secret.bin"), "must be in the file"),
        (graphs.custom(), "must be one of ONNX Runtime's own"),
    ],
    ids=["beside", "above", "round", "absolute", "link", "range", "address", "subgraph", "custom"],
)
def test_nothing_outside_the_file_is_read_or_run(tmp_path: Path, made: Any, words: str) -> None:
    """F3: No external data, wherever it is named, and no operator of a library."""
    folder = tmp_path / "models"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "secret.bin").write_bytes(np.eye(2, dtype=np.float32).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    content = graphs.content(made).replace(b"{folder}", str(folder).encode()[:8].ljust(8, b"/"))
    (folder / "model.onnx").write_bytes(content)
    assert words in imported(folder, "model.onnx")


def test_a_graph_that_wants_all_memory(tmp_path: Path) -> None:
    """F3: 10^12 numbers in 200 bytes end the looking process at its limit, and only that."""
    (tmp_path / "model.onnx").write_bytes(graphs.content(graphs.huge()))
    assert "must be" in imported(tmp_path, "model.onnx")


def test_a_graph_of_a_million_nodes(tmp_path: Path) -> None:
    """F3: They are counted, and no library walks along them."""
    (tmp_path / "model.onnx").write_bytes(graphs.content(graphs.chain(1_000_000)))
    start_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "corelane", "import-model", "model.onnx"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert "at most 100000 nodes" in done.stderr
    assert time.monotonic() - start_s < LIMIT_S


@pytest.mark.slow  # two minutes; with three seconds it is tests/model/foreign/test_worker.py's
def test_a_loop_without_an_end(tmp_path: Path) -> None:
    """F3: The looking process has a limit on its time; nothing is left running."""
    (tmp_path / "model.onnx").write_bytes(graphs.content(graphs.endless()))
    assert "must be opened and run within 120 s" in imported(tmp_path, "model.onnx")


HEADER = struct.Struct("<Q")


@pytest.mark.parametrize(
    "content",
    [
        HEADER.pack(2**62) + b"{}",
        HEADER.pack(200 << 20) + b"{",
        HEADER.pack(60) + b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'[:60],
        HEADER.pack(2) + b"{}" + bytes(1000),
        pickle.dumps({"w": 1}),
    ],
    ids=["length", "header", "shape", "trailing", "pickle"],
)
def test_weights_that_are_no_safetensors(tmp_path: Path, content: bytes) -> None:
    """F5: Refused by what the header says, before anything of that size is asked for."""
    (tmp_path / "w.safetensors").write_bytes(content)
    (tmp_path / "rows.csv").write_text("x,series\n1,2\n")
    words = imported(tmp_path, f"{HERE}:Two", "--weights", "w.safetensors", "--data", "rows.csv")
    assert "--weights must be a safetensors file" in words


@pytest.mark.parametrize("path", ["os:system", "subprocess:Popen", "builtins:eval", "corelane.app:train"])
def test_nothing_but_a_module_is_called(tmp_path: Path, path: str) -> None:
    """F9: The import path must lead to a class of networks."""
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "w.safetensors")
    (tmp_path / "rows.csv").write_text("x\n1\n")
    words = imported(tmp_path, path, "--weights", "w.safetensors", "--data", "rows.csv", "--argument", "x=touch owned")
    assert "must name a torch.nn.Module class" in words


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("graphs/fp32.onnx", ModelPackage.predictor),
        ("weights.safetensors", ModelPackage.weights),
        ("holdout.arrow", ModelPackage.holdout),
    ],
)
def test_a_file_that_is_swapped_after_it_was_verified(
    tmp_path: Path, name: str, use: Callable[[ModelPackage], object]
) -> None:
    """F8: What is used are the bytes that were verified, or nothing."""
    path = examples.publish(tmp_path / "good", examples.matrix(2, 3))
    package = ModelPackage.load(path)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(BundleError, match="must stay as it was"):
        use(package)


def test_the_weights_of_a_module_are_checked_name_by_name(tmp_path: Path) -> None:
    """F5: Other names or shapes than the network's are no reason to load what fits."""
    save_file({"vector.weight": np.zeros((6, 4), np.float32)}, tmp_path / "w.safetensors")
    (tmp_path / "rows.csv").write_text("x,series\n1,2\n")
    assert Two.__name__ in imported(tmp_path, f"{HERE}:Two", "--weights", "w.safetensors", "--data", "rows.csv")


def test_the_checks_are_of_what_lies_in_archives_too(tmp_path: Path) -> None:
    """F2: An archive is no model; nothing unpacks it."""
    with zipfile.ZipFile(tmp_path / "model.onnx", "w") as archive:
        archive.writestr("../escaped.txt", "x")
    assert "must be an ONNX file" in imported(tmp_path, "model.onnx")
    assert not (tmp_path.parent / "escaped.txt").exists()
