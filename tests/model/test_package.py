"""`model.package`: published whole after the gate or not at all, loaded only when every byte is as it was written."""

from __future__ import annotations

import getpass
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from corelane.core.errors import BundleError, ConfigError, GoldenError, NotFoundError, SkewError
from corelane.model.candidate import Candidate, RuntimeName
from corelane.model.package import KIND, ModelPackage, PackageContents, versions_of, write_package
from corelane.model.runtimes.onnx.quantizer import Quantizer
from corelane.model.runtimes.torch import torch_predictor
from corelane.model.skew import Tolerance, compare
from corelane.store.bundle import write_bundle
from tests.model import examples
from tests.model.examples import Example

FILES = {
    "manifest.json",
    "package.json",
    "pipeline.json",
    "weights.safetensors",
    "graphs/fp32.onnx",
    "golden.arrow",
    "calibration.arrow",
    "holdout.arrow",
    "card.md",
}


def names_in(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examples.publish(tmp_path_factory.mktemp("original"), examples.mixed())


@pytest.fixture
def published(original: Path, tmp_path: Path) -> Path:
    """A copy that the test may break."""
    return Path(shutil.copytree(original, tmp_path / "packages" / "sample" / "1"))


def resealed(published: Path, target: Path, change: Callable[[Path], None]) -> Path:
    """A package whose manifest is right about files that somebody changed."""
    with write_bundle(target, KIND) as path:
        shutil.copytree(published, path, dirs_exist_ok=True)
        (path / "manifest.json").unlink()
        change(path)
    return target


def change_json(name: str, **values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).write_text(json.dumps(json.loads((path / name).read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("make", "net"),
    [
        (examples.mixed, "mlp"),
        (examples.matrix, "mlp"),
        (examples.regression, "mlp"),
        (examples.images, "cnn"),
        (examples.multi_label, "mlp"),
    ],
)
def test_a_published_package_answers_as_training_did(make: Callable[[], Example], net: str, tmp_path: Path) -> None:
    """Loaded from disk, it reproduces its golden rows and the training path's answers on any rows."""
    source = make()
    path = examples.publish(tmp_path, source, net)
    package = ModelPackage.load(path)
    assert (path.name, package.name, package.version) == ("1", "sample", 1)
    assert names_in(path) == FILES
    with package.predictor() as predictor, torch_predictor(package) as reference:
        package.check_golden(predictor)
        rows = source.checked.select(list(source.pipeline.schema.names))
        compare(reference.predict_table(rows), predictor.predict_table(rows), package.tolerances["fp32"])


def test_what_is_loaded_is_what_was_written(published: Path) -> None:
    """Weights, rows, metrics, provenance and the pipeline come back; the digest is the manifest's."""
    contents, package = examples.contents(examples.mixed()), ModelPackage.load(published)
    assert package.pipeline.digest == contents.pipeline.digest
    assert package.metrics == {"accuracy": 0.5}
    assert package.provenance == contents.provenance
    assert package.provenance.created == "2025-06-15T15:06:40Z"
    assert package.calibration().equals(contents.calibration)
    assert package.holdout().equals(contents.holdout)
    for name, values in contents.weights.items():
        np.testing.assert_array_equal(package.weights()[name], values)
    assert len(package.digest) == 64


def test_nothing_names_the_machine_that_wrote_it(original: Path, published: Path) -> None:
    """No file holds the checkout's path, the folder it was written to, or the user's home."""
    traces = [
        str(Path(__file__).parents[2]),
        str(original.parents[1]),
        str(Path.home()) + "/",
        f"/{getpass.getuser()}/",
    ]
    for name in FILES:
        content = (published / name).read_bytes()
        assert not [trace for trace in traces if len(trace) > 4 and trace.encode() in content], name


def test_versions_count_up(tmp_path: Path) -> None:
    """Each publication is the next whole number, whatever else lies in the folder; older ones stay as they were."""
    first = examples.publish(tmp_path, examples.mixed())
    digest = ModelPackage.load(first).digest
    (tmp_path / "sample" / "latest").mkdir()
    (tmp_path / "sample" / "9").mkdir()
    assert examples.publish(tmp_path, examples.mixed()).name == "10"
    assert versions_of(tmp_path / "sample") == [1, 9, 10]
    assert ModelPackage.load(first).digest == digest
    assert versions_of(tmp_path / "nothing") == []


def test_the_gate_sees_the_whole_package_before_anybody_else(tmp_path: Path) -> None:
    """It can load and ask the staged package, which is not yet among the versions."""
    seen = []

    def gate(staged: Path) -> None:
        package = ModelPackage.load(staged)
        with package.predictor() as predictor:
            package.check_golden(predictor)
        seen.append((package.name, package.version, names_in(staged), versions_of(tmp_path / "sample")))

    write_package(tmp_path, examples.contents(examples.mixed()), gate)
    assert seen == [("sample", 1, FILES, [])]


def test_what_fails_the_gate_is_not_published(tmp_path: Path) -> None:
    """The gate's error reaches the caller, nothing of the package is left, and the version is free again."""

    def gate(staged: Path) -> None:
        raise SkewError("served label of row 0 must be 'a', got 'b'")

    with pytest.raises(SkewError, match="row 0"):
        write_package(tmp_path, examples.contents(examples.mixed()), gate)
    assert list((tmp_path / "sample").iterdir()) == []
    assert examples.publish(tmp_path, examples.mixed()).name == "1"


def test_a_version_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """Another writer that publishes the same number while the gate runs keeps it; we say so."""

    def gate(staged: Path) -> None:
        (tmp_path / "sample" / "1").mkdir()
        (tmp_path / "sample" / "1" / "theirs").touch()

    with pytest.raises(ConfigError, match="another writer took the version"):
        write_package(tmp_path, examples.contents(examples.mixed()), gate)
    assert [path.name for path in (tmp_path / "sample").iterdir()] == ["1"]
    assert (tmp_path / "sample" / "1" / "theirs").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../up"}, "a package's name must be"),
        ({"metrics": {"loss": float("nan")}}, "the metric loss must be a finite number, got nan"),
    ],
)
def test_contents_that_cannot_be_written_are_refused(change: dict[str, Any], words: str) -> None:
    """Before anything is written: contents that exist can be published."""
    with pytest.raises(ConfigError, match=words):
        replace(examples.contents(examples.mixed()), **change)


def test_rows_stay_out_when_they_must(tmp_path: Path) -> None:
    """Without rows the package holds none of the three files, and the golden check has nothing to do."""
    path = examples.publish(tmp_path, examples.mixed(), include_rows=False)
    assert names_in(path) == FILES - {"golden.arrow", "calibration.arrow", "holdout.arrow"}
    package = ModelPackage.load(path)
    assert (package.golden, package.calibration(), package.holdout()) == (None, None, None)
    with package.predictor() as predictor:
        package.check_golden(predictor)


@pytest.mark.parametrize("name", sorted(FILES))
def test_one_flipped_bit_in_any_file_is_refused(name: str, published: Path) -> None:
    """At the start, in the middle and at the end of every file; the error names the file."""
    file = published / name
    good = file.read_bytes()
    for position in {0, len(good) // 2, len(good) - 1}:
        file.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            ModelPackage.load(published)
    file.write_bytes(good)
    assert ModelPackage.load(published).name == "sample"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_cut_or_missing_file_is_refused(name: str, published: Path) -> None:
    """So is every file that lost its last byte, all of them, or itself."""
    file = published / name
    good = file.read_bytes()
    for cut in (good[:-1], b""):
        file.write_bytes(cut)
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            ModelPackage.load(published)
    file.unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        ModelPackage.load(published)


def test_an_extra_file_is_refused(published: Path) -> None:
    """Nothing may be added to a package, in no folder of it."""
    (published / "graphs" / "int8.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"graphs/int8\.onnx"):
        ModelPackage.load(published)


GRAPHS = {"fp32": {"file": "graphs/int8.onnx", "tolerance": {"absolute": 1e-4, "relative": 1e-3}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_json("package.json", format_version=2), r"package\.json must have format_version 1, got 2"),
        (change_json("package.json", graphs=GRAPHS), r"graphs/int8\.onnx must exist"),
        (change_json("pipeline.json", version=99), r"pipeline\.json must be a fitted pipeline"),
        (change_json("pipeline.json", schema=None), r"pipeline\.json must be a fitted pipeline"),
        (lambda path: (path / "pipeline.json").write_text("[]"), r"pipeline\.json must be a JSON object"),
        (lambda path: (path / "pipeline.json").unlink(), r"pipeline\.json must exist"),
        (lambda path: (path / "weights.safetensors").unlink(), r"weights\.safetensors must exist"),
        (lambda path: (path / "golden.arrow").write_bytes(b"no"), r"golden\.arrow must be an Arrow file"),
    ],
)
def test_a_sealed_package_that_makes_no_sense_is_refused(
    change: Callable[[Path], None], words: str, published: Path, tmp_path: Path
) -> None:
    """Right checksums do not help a file that is of an unknown version, missing or of another kind."""
    with pytest.raises(BundleError, match=words):
        ModelPackage.load(resealed(published, tmp_path / "forged", change))


def test_a_graph_that_does_not_fit_its_pipeline_is_refused(published: Path, tmp_path: Path) -> None:
    """The graph of another package is a BundleError when the predictor is made, not at the first request."""
    other = examples.publish(tmp_path / "other", examples.matrix(4, 2))

    def swap(path: Path) -> None:
        shutil.copy(other / "graphs" / "fp32.onnx", path / "graphs" / "fp32.onnx")

    package = ModelPackage.load(resealed(published, tmp_path / "forged", swap))
    with pytest.raises(BundleError, match=r"graphs/fp32\.onnx must take"):
        package.predictor()


def test_a_graph_with_other_weights_fails_the_golden_rows(published: Path, tmp_path: Path) -> None:
    """What fits but answers otherwise is caught by the golden rows."""
    contents = examples.contents(examples.mixed())
    altered = bytearray(contents.graphs["fp32"])
    weights = contents.weights["layers.4.weight"].tobytes()
    start = altered.index(weights)
    altered[start : start + len(weights)] = (np.frombuffer(weights, np.float32) * 3).tobytes()
    forged = resealed(
        published, tmp_path / "forged", lambda path: (path / "graphs" / "fp32.onnx").write_bytes(altered) and None
    )
    package = ModelPackage.load(forged)
    with package.predictor() as predictor, pytest.raises(GoldenError, match="package sample version 1"):
        package.check_golden(predictor)


def test_a_graph_it_does_not_have_is_not_found(published: Path) -> None:
    """The error names the graphs there are."""
    with pytest.raises(NotFoundError, match=r"graph must be one of \['fp32'\], got 'int8'"):
        ModelPackage.load(published).predictor(Candidate("onnxruntime", "int8"))


def test_two_precisions_of_one_graph_share_its_file(tmp_path: Path) -> None:
    """`bf16` is fp32's file under another name, with a tolerance of its own."""
    made = examples.contents(examples.mixed())
    graphs = {**made.graphs, "bf16": made.graphs["fp32"]}
    tolerances = {**made.tolerances, "bf16": Tolerance(0.02, 1e-3)}
    path = write_package(tmp_path, replace(made, graphs=graphs, tolerances=tolerances), gate=lambda path: None)
    package = ModelPackage.load(path)
    assert names_in(path) == FILES
    assert package.graphs["bf16"] == package.graphs["fp32"]
    assert package.tolerances["bf16"].absolute == 0.02


def test_a_broken_int8_graph_fails_the_golden_rows(tmp_path: Path) -> None:
    """Its tolerance is measured and wider, and still too narrow for weights that were changed."""
    source = examples.matrix(8, 4)
    made = examples.contents(source)
    inputs = [source.pipeline.transform(source.checked.select(list(source.pipeline.schema.names)))]
    int8 = Quantizer(made.graphs["fp32"], inputs).quantized()
    good = with_int8(tmp_path / "good", made, int8, Tolerance(1.0, 0.0))
    rows = source.checked.select(list(source.pipeline.schema.names))
    runtimes: list[RuntimeName] = ["onnxruntime", "openvino"]
    with good.predictor() as exact:
        expected = exact.predict_table(rows)
    answers = []
    for runtime in runtimes:
        with good.predictor(Candidate(runtime, "int8")) as quantized:
            answers.append(quantized.predict_table(rows))
    tolerance = made.tolerances["fp32"].widened(expected, answers)
    assert 1e-4 < tolerance.absolute < 0.1
    for runtime in runtimes:
        package = with_int8(tmp_path / runtime, made, int8, tolerance)
        with package.predictor(Candidate(runtime, "int8")) as predictor:
            package.check_golden(predictor, graph="int8")
        broken = with_int8(tmp_path / f"{runtime}-broken", made, negated(int8), tolerance)
        with (
            broken.predictor(Candidate(runtime, "int8")) as predictor,
            pytest.raises(GoldenError, match="must reproduce its golden rows"),
        ):
            broken.check_golden(predictor, graph="int8")


def with_int8(folder: Path, made: PackageContents, int8: bytes, tolerance: Tolerance) -> ModelPackage:
    contents = replace(made, graphs={**made.graphs, "int8": int8}, tolerances={**made.tolerances, "int8": tolerance})
    return ModelPackage.load(write_package(folder, contents, gate=lambda path: None))


def negated(int8: bytes) -> bytes:
    """The graph with the sign of every weight of its second layer turned."""
    model = onnx.load_from_string(int8)
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    tensor = [tensor for tensor in weights if len(tensor.dims) == 2][1]
    tensor.raw_data = (-onnx.numpy_helper.to_array(tensor)).tobytes()
    content: bytes = model.SerializeToString()
    return content
