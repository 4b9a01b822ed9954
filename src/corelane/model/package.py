"""Packages: the immutable bundle a trained model is published as, its writing through the gate, its verified loading.

A package that exists has passed the gate; a `ModelPackage` that exists has had every byte verified. Loading needs
neither torch nor onnx. What the files say is in `description.py`, `golden.py` and the pipeline's JSON; the layout is
in docs/model.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save_file

from corelane.core.errors import BundleError, ConfigError, CorelaneError, NotFoundError
from corelane.core.types import Array, JsonObject, NamedArrays
from corelane.data.stages.column import FREE
from corelane.data.tensor_pipeline import AnyPipeline, pipeline_of
from corelane.model.candidate import SAFE, Candidate
from corelane.model.card import render_card
from corelane.model.decode import Decoder, decoder_of
from corelane.model.description import (
    DESCRIPTION,
    MAX_DESCRIPTION_BYTES,
    Description,
    Graph,
    Provenance,
    check_name,
    parse_description,
    parse_json,
    write_description,
)
from corelane.model.golden import Golden, parse_arrow, write_arrow
from corelane.model.predictor import Predictor
from corelane.model.runtimes.base import LOGITS, GraphRuntime, RowShape, Runtime
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.opening import open_runtime, open_weights
from corelane.model.signature import Signature, TensorMeta
from corelane.model.skew import Tolerance
from corelane.store.bundle import Bundle, remove_temporaries, verify_bundle, write_bundle
from corelane.store.durable import sync_directory, temporary_directory

KIND = "package"
PIPELINE, WEIGHTS, GOLDEN, CALIBRATION, HOLDOUT, CARD = (
    "pipeline.json",
    "weights.safetensors",
    "golden.arrow",
    "calibration.arrow",
    "holdout.arrow",
    "card.md",
)
_FILES = frozenset((DESCRIPTION, PIPELINE, WEIGHTS, GOLDEN, CALIBRATION, HOLDOUT, CARD))
"""What may be in a package beside its graphs."""

FOREIGN = "foreign"
"""The architecture's `net` of a network that was not trained here: of that there is the graph, and no weights."""


@dataclass(frozen=True, slots=True)
class PackageContents:
    """Everything a package is made of. `golden`, `calibration` and `holdout` are None where rows stay out.

    `outputs` are those of the graphs where the pipeline has no target: of a network that was not trained here, whose
    `weights` are None.

    Raises `ConfigError` for a name that cannot be a package's and for metrics that are no finite numbers.
    """

    name: str
    pipeline: AnyPipeline
    architecture: JsonObject
    weights: NamedArrays | None
    graphs: Mapping[str, bytes]
    tolerances: Mapping[str, Tolerance]
    metrics: Mapping[str, float]
    provenance: Provenance
    golden: Golden | None
    calibration: pa.Table | None
    holdout: pa.Table | None
    outputs: tuple[TensorMeta, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise ConfigError(
                    f"the metric {name} must be a finite number, got {value!r}; leave it out or train again"
                )


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A verified package. `graphs` and `tolerances` are keyed by precision, `"fp32"` first; `version` counts from 1."""

    bundle: Bundle
    name: str
    version: int
    signature: Signature
    architecture: JsonObject
    metrics: Mapping[str, float]
    provenance: Provenance
    pipeline: AnyPipeline
    decoder: Decoder
    graphs: Mapping[str, Path]
    tolerances: Mapping[str, Tolerance]
    golden: Golden | None

    @classmethod
    def load(cls, path: Path) -> ModelPackage:
        """Verify and open the package at `path`.

        Raises `BundleError` naming the file that is missing, altered, of an unknown version or not what it should be.
        """
        bundle = verify_bundle(path, KIND)
        _check_present(bundle, DESCRIPTION, PIPELINE)
        _check_small(bundle, DESCRIPTION, PIPELINE)
        description = parse_description(bundle.read(DESCRIPTION), path / DESCRIPTION)
        if description.architecture.get("net") != FOREIGN:
            _check_present(bundle, WEIGHTS)
        for graph in description.graphs.values():
            if graph.file not in bundle.files:
                raise BundleError(f"{path / graph.file} must exist, package.json names it; package the run again")
        for name in sorted(bundle.files.keys() - _FILES - {graph.file for graph in description.graphs.values()}):
            raise BundleError(f"{path / name} must not be in a package, nothing reads it; package the run again")
        pipeline = _read_pipeline(bundle)
        return cls(
            bundle=bundle,
            name=description.name,
            version=description.version,
            signature=description.signature,
            architecture=description.architecture,
            metrics=description.metrics,
            provenance=description.provenance,
            pipeline=pipeline,
            decoder=decoder_of(pipeline.target),
            graphs={name: path / graph.file for name, graph in description.graphs.items()},
            tolerances={name: graph.tolerance for name, graph in description.graphs.items()},
            golden=Golden.parse(bundle.read(GOLDEN), path / GOLDEN) if GOLDEN in bundle.files else None,
        )

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.bundle.path

    @property
    def digest(self) -> str:
        """What tells it from every other package: the SHA-256 of its manifest."""
        return self.bundle.digest

    @property
    def has_weights(self) -> bool:
        """Whether the network's weights are there beside its graphs: not where it was imported."""
        return WEIGHTS in self.bundle.files

    @property
    def num_bytes(self) -> int:
        """Size of its largest graph: what a runtime that serves it holds at least."""
        return max(graph.stat().st_size for graph in self.graphs.values())

    def predictor(self, candidate: Candidate = SAFE, *, shared: Path | None = None) -> Predictor:
        """A predictor that runs as `candidate` says; the caller closes it. `shared` is as for `open_runtime`.

        Raises `NotFoundError` for a graph the package does not have, and what `open_runtime` and `open_weights` raise.
        `runtimes.torch.torch_predictor` runs the weights without compiling them.
        """
        if candidate.graph not in self.graphs:
            raise NotFoundError(
                f"graph must be one of {sorted(self.graphs)}, got {candidate.graph!r}; choose one of those"
            )
        if candidate.runtime == "torch":
            runtime: Runtime = open_weights(self.architecture, self.weights(), candidate)
        else:
            runtime = self._open_graph(self.graphs[candidate.graph], candidate, shared)
        return Predictor(self.pipeline, self.decoder, runtime)

    def _open_graph(self, graph: Path, candidate: Candidate, shared: Path | None) -> GraphRuntime:
        entry = self.bundle.files[graph.relative_to(self.path).as_posix()]
        runtime = open_runtime(read_graph(graph, entry.sha256), candidate, shared=shared)
        taken = {name: _row_shape(spec.shape) for name, spec in self.pipeline.outputs.items()}
        if runtime.inputs != taken or not self._gives(runtime.outputs):
            raise BundleError(
                f"{graph} must take {taken} and give {self._given()} a row, got {runtime.inputs} and "
                f"{runtime.outputs}; package the run again"
            )
        return runtime

    def _gives(self, outputs: Mapping[str, RowShape]) -> bool:
        """Whether a graph's outputs are those it must have.

        Of a network that was imported, a library need not see each length that is known.
        """
        wanted = self._given()
        return outputs == wanted if self.pipeline.target is not None else _may_be(outputs, wanted)

    def _given(self) -> dict[str, RowShape]:
        """What a row's outputs are, by name."""
        target = self.pipeline.target
        if target is not None:
            return {LOGITS: (target.num_outputs,)}
        return {tensor.name: _row_shape(tensor.shape[1:]) for tensor in self.signature.outputs}

    def check_golden(self, predictor: Predictor, *, graph: str = "fp32") -> None:
        """Raise `GoldenError` if `predictor` does not answer the golden rows, where there are any, as training did."""
        if self.golden is not None:
            self.golden.check(predictor, self.tolerances[graph], name=f"{self.name} version {self.version}")

    def weights(self) -> dict[str, Array]:
        """The network's parameters and buffers by name.

        Raises `ConfigError` for a network that was not trained here, `BundleError` when they are no safetensors.
        """
        if not self.has_weights:
            raise ConfigError(f"{self.path} must hold weights, got a graph alone, which was imported; use the graph")
        try:
            return dict(load_safetensors(self.bundle.read(WEIGHTS)))
        except SafetensorError as error:
            raise BundleError(
                f"{self.path / WEIGHTS} must be safetensors, got: {error}; package the run again"
            ) from error

    def calibration(self) -> pa.Table | None:
        """Checked raw rows of the training part with their target, or None where rows were left out."""
        return self._rows(CALIBRATION)

    def holdout(self) -> pa.Table | None:
        """Checked raw rows of the validation part with their target, or None where rows were left out."""
        return self._rows(HOLDOUT)

    def _rows(self, name: str) -> pa.Table | None:
        return parse_arrow(self.bundle.read(name), self.path / name) if name in self.bundle.files else None


def write_package(directory: Path, contents: PackageContents, gate: Callable[[Path], None]) -> Path:
    """Publish `contents` as `<directory>/<name>/<version>/`, the next whole number, and return that path.

    The whole package is written under a temporary name first; `gate(path of it)` may load and serve it there. What
    the gate raises goes to the caller, and nothing is published. Raises `ConfigError` when another writer took the
    version meanwhile, `DiskFullError` when there is no room; existing versions are never touched.
    """
    home = directory / contents.name
    remove_temporaries(home)
    version = max(versions_of(home), default=0) + 1
    target = home / str(version)
    with temporary_directory(target) as staging:
        staged = staging / KIND
        with write_bundle(staged, KIND) as path:
            _write_files(path, contents, version)
        gate(staged)
        _publish(staged, target)
    return target


def versions_of(home: Path) -> list[int]:
    """The versions published in `home` (a package name's folder), ascending; none if it does not exist."""
    if not home.is_dir():
        return []
    return sorted(int(path.name) for path in home.iterdir() if path.name.isdecimal() and path.name.isascii())


def _write_files(path: Path, contents: PackageContents, version: int) -> None:
    description = Description(
        name=contents.name,
        version=version,
        task="tensors" if contents.pipeline.target is None else contents.pipeline.target.task,
        signature=Signature.of(contents.pipeline, contents.outputs),
        architecture=contents.architecture,
        metrics=dict(contents.metrics),
        graphs={
            name: Graph(file=f"graphs/{_file_name(name, contents.graphs)}.onnx", tolerance=contents.tolerances[name])
            for name in contents.graphs
        },
        provenance=contents.provenance,
    )
    write_description(path / DESCRIPTION, description)
    (path / PIPELINE).write_text(json.dumps(contents.pipeline.to_json(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    if contents.weights is not None:
        save_file(dict(contents.weights), path / WEIGHTS)
    (path / "graphs").mkdir()
    for name, graph in contents.graphs.items():
        (path / description.graphs[name].file).write_bytes(graph)
    if contents.golden is not None:
        contents.golden.write(path / GOLDEN)
    for name, rows in ((CALIBRATION, contents.calibration), (HOLDOUT, contents.holdout)):
        if rows is not None:
            write_arrow(path / name, rows)
    (path / CARD).write_text(render_card(description), "utf-8")


def _file_name(name: str, graphs: Mapping[str, bytes]) -> str:
    """The first of the names whose graph has these bytes: two precisions of one graph share its file."""
    return next(other for other in graphs if graphs[other] == graphs[name])


def _publish(staged: Path, target: Path) -> None:
    try:
        staged.rename(target)
    except OSError as error:
        if not target.exists():
            raise
        raise ConfigError(f"{target} must not exist yet, another writer took the version; package again") from error
    sync_directory(target.parent)


def _check_present(bundle: Bundle, *names: str) -> None:
    for name in names:
        if name not in bundle.files:
            raise BundleError(f"{bundle.path / name} must exist, got nothing; package the run again")


def _check_small(bundle: Bundle, *names: str) -> None:
    """Before a file is read whole."""
    for name in names:
        if bundle.files[name].size > MAX_DESCRIPTION_BYTES:
            raise BundleError(
                f"{bundle.path / name} must be at most {MAX_DESCRIPTION_BYTES} bytes, got {bundle.files[name].size}; "
                "package the run again"
            )


def _row_shape(shape: tuple[int, ...]) -> RowShape:
    return tuple(None if length == FREE else length for length in shape)


def _may_be(found: Mapping[str, RowShape], wanted: Mapping[str, RowShape]) -> bool:
    """Whether they have the same names and ranks, and no length that is known in both differs."""
    return found.keys() == wanted.keys() and all(
        len(shape) == len(wanted[name])
        and all(one in (other, None) or other is None for one, other in zip(shape, wanted[name], strict=True))
        for name, shape in found.items()
    )


def _read_pipeline(bundle: Bundle) -> AnyPipeline:
    path = bundle.path / PIPELINE
    try:
        return pipeline_of(parse_json(bundle.read(PIPELINE), path))
    except BundleError:
        raise
    except (CorelaneError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} must be a fitted pipeline, got: {error}; package the run again") from error
