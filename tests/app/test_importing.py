"""Somebody else's network: imported, scored, served and optimised through the commands a user types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file

from corelane.app import import_model, load
from corelane.core.errors import ConfigError, RequestError
from corelane.model.package import ModelPackage
from tests.model.foreign import graphs
from tests.model.foreign.test_module import HERE, Two
from tests.serve.live import serving

PATH = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
LENGTHS = (2, 5, 3, 5)


def tokens(num_rows: int = 120) -> pa.Table:
    """Rows of four lengths, all of whose tokens count."""
    random = np.random.default_rng(0)
    ids = [random.integers(0, 100, LENGTHS[row % 4]).tolist() for row in range(num_rows)]
    return pa.table({"input_ids": ids, "attention_mask": [[1] * len(one) for one in ids], "note": ["x"] * num_rows})


def corelane(folder: Path, *arguments: str, code: int = 0) -> Any:
    """What the command answers in JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "corelane", *arguments, "--json"],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a foreign file, rows, and the package that was made of it."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "text.onnx").write_bytes(graphs.content(graphs.text_classifier()))
    pa.parquet.write_table(tokens(), folder / "rows.parquet")
    answer = corelane(folder, "import-model", "text.onnx", "--data", "rows.parquet")
    assert answer["package"] == "packages/text/1"
    assert answer["inputs"] == ["input_ids int64 [-1, -1]", "attention_mask int64 [-1, -1]"]
    assert answer["compared_rows"] == 120
    return folder


def expected(ids: list[int]) -> np.ndarray:
    """What the graph's formula gives: the mean of the tokens' vectors, times the head."""
    scores: np.ndarray = graphs.WEIGHTS[ids].mean(0) @ graphs.HEAD
    return scores


def test_the_package_holds_a_graph_and_no_code(imported: Path) -> None:
    """Nor weights, nor where the file lay; the rows it keeps are of one shape."""
    package = ModelPackage.load(imported / "packages" / "text" / "1")
    assert sorted(package.bundle.files) == [
        "calibration.arrow",
        "card.md",
        "golden.arrow",
        "graphs/fp32.onnx",
        "holdout.arrow",
        "package.json",
        "pipeline.json",
    ]
    holdout = package.holdout()
    assert holdout is not None
    assert holdout.num_rows == 60
    with pytest.raises(ConfigError, match="must hold weights"):
        package.weights()
    card = (package.path / "card.md").read_text()
    assert "imported" in card
    assert "How good" not in card


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_rows_of_every_length_are_scored_in_order(imported: Path, ending: str) -> None:
    """A number, a list or a list of lists in a cell; in a CSV as JSON."""
    answer = corelane(imported, "predict", "packages/text", "--input", "rows.parquet", "--output", f"out.{ending}")
    assert (answer["rows"], answer["rejected"]) == (120, 0)
    path = imported / f"out.{ending}"
    if ending == "jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    elif ending == "csv":
        rows = pa.csv.read_csv(path).to_pylist()
        rows = [{**row, "scores": json.loads(row["scores"]), "vectors": json.loads(row["vectors"])} for row in rows]
    else:
        rows = pa.parquet.read_table(path).to_pylist()
    for row, ids in zip(rows, tokens().column("input_ids").to_pylist(), strict=True):
        np.testing.assert_allclose(row["scores"], expected(ids), atol=1e-4)
        assert np.shape(row["vectors"]) == (len(ids), 16)
        assert row["best"] == int(np.argmax(row["scores"]))


def test_a_row_that_the_network_cannot_compute_is_rejected_alone(imported: Path) -> None:
    """A token beyond its vocabulary, lengths that disagree, a missing list: the others have their answers."""
    ids = [[1, 2], [1, 200], None, [4], [1, 2, 3], [5, 6]]
    masks = [[1, 1], [1, 1], [1], [1], [1, 1], [1, 1]]
    pa.parquet.write_table(pa.table({"input_ids": ids, "attention_mask": masks}), imported / "bad.parquet")
    answer = corelane(imported, "predict", "packages/text", "--input", "bad.parquet", "--output", "bad.jsonl")
    assert (answer["rows"], answer["rejected"]) == (6, 3)
    rows = [json.loads(line) for line in (imported / "bad.jsonl").read_text().splitlines()]
    assert [row["rejected"] is None for row in rows] == [True, False, False, True, False, True]
    assert "that the network can compute" in rows[1]["rejected"]
    np.testing.assert_allclose(rows[5]["scores"], expected([5, 6]), atol=1e-4)


def test_it_is_served_by_both_protocols(imported: Path) -> None:
    """Records and tensors, a batch of one shape at once; what the network cannot compute is the caller's error."""
    with serving(imported / "packages" / "text" / "1") as server:
        record = {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1]}
        reply = server.ask("POST", "/v1/models/text:predict", {"rows": [record]})
        np.testing.assert_allclose(reply.json["predictions"][0]["scores"], expected([1, 2, 3]), atol=1e-4)
        inputs = [
            {"name": "input_ids", "datatype": "INT64", "shape": [2, 2], "data": [1, 2, 3, 4]},
            {"name": "attention_mask", "datatype": "INT64", "shape": [2, 2], "data": [[1, 1], [1, 1]]},
        ]
        reply = server.ask("POST", "/v2/models/text/infer", {"inputs": inputs, "outputs": [{"name": "scores"}]})
        assert reply.json["outputs"][0]["shape"] == [2, 3]
        np.testing.assert_allclose(reply.json["outputs"][0]["data"][3:], expected([3, 4]), atol=1e-4)
        for change, words in (
            ({"input_ids": [1, 200, 3]}, "that the network can compute"),
            ({"attention_mask": [1, 1]}, "that the network can compute"),
            ({"input_ids": [1, 2.5, 3]}, "whole numbers"),
            ({"input_ids": [1, None, 3]}, "whole numbers"),
            ({"input_ids": 1}, "must be a list"),
            ({"input_ids": []}, "input_ids"),
            ({"input_ids": [2**70, 1, 1]}, "whole numbers"),
        ):
            reply = server.ask("POST", "/v1/models/text:predict", {"rows": [{**record, **change}]})
            assert (reply.status, words in reply.json["error"]) == (400, True), reply.json
        metadata = server.ask("GET", "/v2/models/text").json
        assert metadata["inputs"][0] == {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}


def test_it_is_optimised_by_how_well_it_agrees_with_itself(imported: Path) -> None:
    """Its truth is not known: a faster graph must give the float32 graph's answers."""
    answer = corelane(imported, "optimize", "packages/text")
    table = {one["graph"]: one for one in answer["graphs"]}
    assert table["fp32"]["quality"] == 1.0
    assert table["int16"]["kept"]
    assert answer["plans"]["throughput"]["chosen"]
    assert corelane(imported, "predict", "packages/text", "--input", "rows.parquet", "--output", "o.csv")["rows"] == 120


def test_evaluating_it_is_refused(imported: Path) -> None:
    """There is nothing to score it against."""
    answer = corelane(imported, "evaluate", "packages/text", "--input", "rows.parquet", code=2)
    assert "what its answers should be is not known" in answer["error"]


def test_a_module_becomes_a_graph(tmp_path: Path) -> None:
    """By its import path with safetensors: what is served equals what torch gives."""
    torch.manual_seed(0)
    save_file(Two(6).state_dict(), tmp_path / "w.safetensors")
    random = np.random.default_rng(0)
    series = [random.normal(size=(2 + row % 3, 3)).tolist() for row in range(30)]
    pa.parquet.write_table(
        pa.table({"x": random.normal(size=(30, 4)).tolist(), "series": series}), tmp_path / "rows.parquet"
    )
    given = ["--weights", "w.safetensors", "--argument", "hidden=6", "--data", "rows.parquet", "--name", "two"]
    answer = corelane(tmp_path, "import-model", f"{HERE}:Two", *given)
    assert answer["inputs"] == ["x float32 [-1, 4]", "series float32 [-1, -1, 3]"]
    assert answer["outputs"] == ["logits float32 [-1, 2]", "best int64 [-1]"]
    text = "".join(path.read_text("utf-8", "replace") for path in (tmp_path / answer["package"]).rglob("*.json"))
    assert "test_module" not in text


def test_without_rows_a_file_is_compared_on_zeros(tmp_path: Path) -> None:
    """The package then holds no rows, and `optimize` asks for some."""
    (tmp_path / "my model.onnx").write_bytes(graphs.content(graphs.doubled()))
    answer = corelane(tmp_path, "import-model", "my model.onnx")
    assert (answer["package"], answer["compared_rows"]) == ("packages/my-model/1", 3)
    with load(tmp_path / answer["package"]) as predictor:
        assert predictor.predict_rows([{"x": [1.0, 2.0]}]) == [{"y": [2.0, 4.0]}]
        with pytest.raises(RequestError):
            predictor.predict_rows([{"x": [1.0]}])
    assert "--data" in corelane(tmp_path, "optimize", "packages/my-model", code=2)["error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.onnx"], "must be an ONNX file or package.module:Class"),
        ([f"{HERE}:Two"], "--weights and --argument must be given"),
        (["a.onnx", "--weights", "w"], "--weights and --argument must be given"),
        (["a.onnx", "--name", "../up"], "a package's name must be"),
        (["a.onnx", "--data", "rows.csv"], "must have a column 'x', got none"),
        (["a.onnx", "--data", "texts.csv"], "must have a valid row, got none: x must be float32 of shape"),
        (["row.onnx"], "must not be named row or rejected"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, arguments: list[str], words: str) -> None:
    """In one line, with nothing written."""
    (tmp_path / "a.onnx").write_bytes(graphs.content(graphs.doubled()))
    named = graphs.model([graphs.helper.make_node("Neg", ["x"], ["row"])], outputs=[("row", graphs.FLOAT, ("n", 2))])
    (tmp_path / "row.onnx").write_bytes(graphs.content(named))
    (tmp_path / "rows.csv").write_text("y\n1\n")
    (tmp_path / "texts.csv").write_text("x\na\n")
    assert words in corelane(tmp_path, "import-model", *arguments, code=2)["error"]
    assert not (tmp_path / "packages").exists()


def test_it_can_be_called_from_python(tmp_path: Path) -> None:
    """`import_model` takes what the command takes."""
    (tmp_path / "a.onnx").write_bytes(graphs.content(graphs.doubled()))
    pa.parquet.write_table(pa.table({"x": [[1.0, 2.0]] * 5}), tmp_path / "rows.parquet")
    answer = import_model(
        str(tmp_path / "a.onnx"),
        data=str(tmp_path / "rows.parquet"),
        name="double",
        directory=tmp_path / "packages",
        include_rows=False,
    )
    assert not list(Path(answer["package"]).glob("*.arrow"))


def test_a_network_without_finite_answers_to_zeros_asks_for_rows(tmp_path: Path) -> None:
    """With rows, those whose answers are finite are kept."""
    made = graphs.model([graphs.helper.make_node("Log", ["x"], ["y"])])
    (tmp_path / "log.onnx").write_bytes(graphs.content(made))
    pa.parquet.write_table(pa.table({"x": [[1.0, 2.0], [-1.0, 1.0], [3.0, 4.0]]}), tmp_path / "rows.parquet")
    assert (
        "for all rows of zeros; give others: --data" in corelane(tmp_path, "import-model", "log.onnx", code=2)["error"]
    )
    answer = corelane(tmp_path, "import-model", "log.onnx", "--data", "rows.parquet")
    assert answer["compared_rows"] == 2


def test_numbers_of_a_csv_are_a_modules_inputs(tmp_path: Path) -> None:
    """Though they come in words."""
    save_file({}, tmp_path / "w.safetensors")
    (tmp_path / "rows.csv").write_text("a,b\n1.5,2\n3,4\n")
    given = ["--weights", "w.safetensors", "--data", "rows.csv"]
    answer = corelane(tmp_path, "import-model", "tests.model.foreign.test_module:Sum", *given)
    assert answer["inputs"] == ["a float32 [-1]", "b int64 [-1]"]


def test_one_row_may_be_larger_than_a_request_usually_is(tmp_path: Path) -> None:
    """A million numbers are 20 MB of JSON; the gate asks all the same."""
    wide = (("x", graphs.FLOAT, ("n", 1 << 20)),), (("y", graphs.FLOAT, ("n", 1)),)
    node = graphs.helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)
    (tmp_path / "wide.onnx").write_bytes(graphs.content(graphs.model([node], *wide)))
    rows = np.random.default_rng(0).normal(size=(2, 1 << 20)).astype(np.float32)
    pa.parquet.write_table(pa.table({"x": list(rows)}), tmp_path / "rows.parquet")
    assert corelane(tmp_path, "import-model", "wide.onnx", "--data", "rows.parquet")["compared_rows"] == 2


def test_a_longer_row_than_was_allowed_is_refused(tmp_path: Path) -> None:
    """By the server, which others can reach; not offline."""
    (tmp_path / "text.onnx").write_bytes(graphs.content(graphs.text_classifier()))
    pa.parquet.write_table(tokens(8), tmp_path / "rows.parquet")
    corelane(tmp_path, "import-model", "text.onnx", "--data", "rows.parquet", "--max-length", "5")
    with serving(tmp_path / "packages" / "text" / "1") as server:
        for length, status in ((5, 200), (6, 400)):
            row = {"input_ids": [1] * length, "attention_mask": [1] * length}
            reply = server.ask("POST", "/v1/models/text:predict", {"rows": [row]})
            assert reply.status == status, reply.json
        assert "must be at most 5, got [1, 6]" in reply.json["error"]


def test_the_openapi_document_tells_of_its_tensors(imported: Path) -> None:
    """Lists of a free length, and examples that are answered by both protocols."""
    with serving(imported / "packages/text/1") as server:
        paths = server.ask("GET", "/openapi.json").json["paths"]
        content = paths["/v1/models/text:predict"]["post"]["requestBody"]["content"]["application/json"]
        column = content["schema"]["properties"]["rows"]["items"]["properties"]["input_ids"]
        assert (column["type"], column["items"]["type"], column.get("maxItems")) == ("array", "integer", None)
        for example in content["examples"].values():
            assert server.ask("POST", "/v1/models/text:predict", example["value"]).status == 200
        content = paths["/v2/models/text/infer"]["post"]["requestBody"]["content"]["application/json"]
        assert server.ask("POST", "/v2/models/text/infer", content["example"]).status == 200
