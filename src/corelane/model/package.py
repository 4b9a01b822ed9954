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
from safetensors.numpy import load_file, save_file

from corelane.core.errors import BundleError, ConfigError, CorelaneError, NotFoundError
from corelane.core.types import Array, JsonObject, NamedArrays
from corelane.data.pipeline import Pipeline
from corelane.model.candidate import SAFE, Candidate
from corelane.model.card import render_card
from corelane.model.decode import Decoder, decoder_of
from corelane.model.description import (
    DESCRIPTION,
    Description,
    Graph,
    Provenance,
    check_name,
    read_description,
    read_json,
    write_description,
)
from corelane.model.golden import Golden, read_arrow, write_arrow
from corelane.model.predictor import Predictor
from corelane.model.runtimes.base import GraphRuntime, Runtime
from corelane.model.runtimes.opening import open_runtime, open_weights
from corelane.model.signature import Signature
from corelane.model.skew import Tolerance
from corelane.store.bundle import remove_temporaries, verify_bundle, write_bundle
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


@dataclass(frozen=True, slots=True)
class PackageContents:
    """Everything a package is made of. `golden`, `calibration` and `holdout` are None where rows stay out.

    Raises `ConfigError` for a name that cannot be a package's and for metrics that are no finite numbers.
    """

    name: str
    pipeline: Pipeline
    architecture: JsonObject
    weights: NamedArrays
    graphs: Mapping[str, bytes]
    tolerances: Mapping[str, Tolerance]
    metrics: Mapping[str, float]
    provenance: Provenance
    golden: Golden | None
    calibration: pa.Table | None
    holdout: pa.Table | None

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

    path: Path
    digest: str
    name: str
    version: int
    signature: Signature
    architecture: JsonObject
    metrics: Mapping[str, float]
    provenance: Provenance
    pipeline: Pipeline
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
        for name in (DESCRIPTION, PIPELINE, WEIGHTS):
            if name not in bundle.files:
                raise BundleError(f"{path / name} must exist, got nothing; package the run again")
        description = read_description(path / DESCRIPTION)
        for graph in description.graphs.values():
            if graph.file not in bundle.files:
                raise BundleError(f"{path / graph.file} must exist, package.json names it; package the run again")
        for name in sorted(bundle.files.keys() - _FILES - {graph.file for graph in description.graphs.values()}):
            raise BundleError(f"{path / name} must not be in a package, nothing reads it; package the run again")
        pipeline = _read_pipeline(path / PIPELINE)
        return cls(
            path=path,
            digest=bundle.digest,
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
            golden=Golden.read(path / GOLDEN) if GOLDEN in bundle.files else None,
        )

    @property
    def num_bytes(self) -> int:
        """Size of its largest graph: what a runtime that serves it holds at least."""
        return max(graph.stat().st_size for graph in self.graphs.values())

    def predictor(self, candidate: Candidate = SAFE) -> Predictor:
        """A predictor that runs as `candidate` says; the caller closes it.

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
            runtime = self._open_graph(self.graphs[candidate.graph], candidate)
        return Predictor(self.pipeline, self.decoder, runtime)

    def _open_graph(self, graph: Path, candidate: Candidate) -> GraphRuntime:
        runtime = open_runtime(graph, candidate)
        made = {name: spec.shape for name, spec in self.pipeline.outputs.items()}
        if runtime.inputs != made or runtime.num_outputs != self.pipeline.target.num_outputs:
            raise BundleError(
                f"{graph} must take {made} and give {self.pipeline.target.num_outputs} outputs, got {runtime.inputs} "
                f"and {runtime.num_outputs}; package the run again"
            )
        return runtime

    def check_golden(self, predictor: Predictor, *, graph: str = "fp32") -> None:
        """Raise `GoldenError` if `predictor` does not answer the golden rows, where there are any, as training did."""
        if self.golden is not None:
            self.golden.check(predictor, self.tolerances[graph], name=f"{self.name} version {self.version}")

    def weights(self) -> dict[str, Array]:
        """The network's parameters and buffers by name. Raises `BundleError`."""
        try:
            return dict(load_file(self.path / WEIGHTS))
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
        return read_arrow(self.path / name) if (self.path / name).exists() else None


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
        task=contents.pipeline.target.task,
        signature=Signature.of(contents.pipeline),
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


def _read_pipeline(path: Path) -> Pipeline:
    try:
        return Pipeline.from_json(dict(read_json(path)))
    except BundleError:
        raise
    except (CorelaneError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} must be a fitted pipeline, got: {error}; package the run again") from error
