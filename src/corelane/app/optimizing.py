"""`corelane optimize`: a package's graphs in other precisions, those that are good enough published as its next
version, and the plans of how this machine runs them, kept in the cache outside the package.

Composes `model/precisions.py` (what is good enough), `model/optimize.py` (what is fastest) and the plan cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from corelane.app.config import cache_directory
from corelane.app.idle_planning import network_inputs, searched_plan
from corelane.app.optimizing_text import optimized_page
from corelane.app.package_paths import resolve_package
from corelane.app.planned import serving_plans
from corelane.app.serving import child_server, served_predict
from corelane.app.sources import open_source, source_of
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError, GoldenError
from corelane.core.types import JsonObject
from corelane.data.tensor_pipeline import largest_alike
from corelane.machine.cpu import Machine
from corelane.machine.optimizer import TIE
from corelane.machine.plan import Plan
from corelane.model.candidate import OBJECTIVES, Candidate, Objective, RuntimeName
from corelane.model.package import ModelPackage, PackageContents, write_package
from corelane.model.precisions import FP32, Precision, Precisions
from corelane.model.runtimes.opening import CANNOT_RUN, runtimes_of
from corelane.model.skew import compare
from corelane.store.bundle import write_atomic

MOST_ROWS = 10_000  # of --data: more tell accuracies apart that no one can
FOLDER = "optimized"


@dataclass(frozen=True)
class Rows:
    """Checked rows [n] with their target: what activations' ranges are taken from, and what graphs are judged on."""

    calibration: pa.Table
    judged: pa.Table


def optimize(
    package: Path | str,
    *,
    max_accuracy_drop: float = 0.005,
    data: str | None = None,
    labels: str | None = None,
    directory: Path | None = None,
    cache: Path | None = None,
    clock: Clock | None = None,
) -> JsonObject:
    """Build, judge, publish and time; returns the table and what was chosen for each objective.

    Judged on the package's holdout rows, or on `data`. The new version lies beside the package, or in `directory`;
    where every graph that survived is there already, none is made. Raises `ConfigError` for a package without rows and
    no `data`, `BundleError`, `SkewError`, `DiskFullError`.
    """
    if not 0.0 <= max_accuracy_drop < 1.0:
        raise ConfigError(f"the accuracy drop must be from 0 to below 1, got {max_accuracy_drop}; give a share: 0.005")
    clock = clock or SystemClock()
    cache = cache if cache is not None else cache_directory()
    path = resolve_package(package)
    source = ModelPackage.load(path)
    rows = _rows(source, data, labels)
    machine = Machine.detect()
    made = Precisions(
        source, calibration=rows.calibration, judged=rows.judged, isa=machine.isa, most_drop=max_accuracy_drop
    )
    precisions = list(made.all())
    published = _published(source, precisions, directory or path.parent.parent)
    optimized = ModelPackage.load(published)
    inputs = network_inputs(optimized, rows.judged)
    found = {objective: searched_plan(optimized, objective, inputs, machine, clock) for objective in OBJECTIVES}
    with serving_plans(cache) as plans:
        for plan in found.values():
            plans.put(plan)
    answer = _answer(optimized, precisions, found, num_rows=rows.judged.num_rows)
    return answer | {"report": str(_keep(answer, cache, optimized.digest))}


def _rows(package: ModelPackage, data: str | None, labels: str | None) -> Rows:
    calibration = package.calibration()
    judged = package.holdout() if data is None else largest_alike(package.pipeline, _read(package, data, labels))
    if judged is None or not judged.num_rows:
        where, advice = (package.path, "give some: --data") if data is None else (data, "check its columns and values")
        raise ConfigError(
            f"{where} must hold valid rows, with their target if there is one, to judge graphs on, got none; {advice}"
        )
    return Rows(judged if calibration is None or not calibration.num_rows else calibration, judged)


def _read(package: ModelPackage, data: str, labels: str | None) -> pa.Table:
    """The first valid rows of `data`, with their target where there is one."""
    batches, num_rows = [], 0
    for batch in open_source(source_of(data, labels)).batches():
        rows = package.pipeline.schema.check(batch.rows, needs_target=package.pipeline.target is not None).rows
        batches.append(rows)
        num_rows += rows.num_rows
        if num_rows >= MOST_ROWS:
            break
    return pa.Table.from_batches(batches).slice(0, MOST_ROWS) if batches else pa.table({})


def _published(source: ModelPackage, precisions: Sequence[Precision], directory: Path) -> Path:
    """The version that holds every graph that survived: the next one, or `source` itself."""
    kept = {one.name: one for one in precisions if one.is_kept}
    if {name: one.graph for name, one in kept.items()} == {
        name: path.read_bytes() for name, path in source.graphs.items()
    }:
        return source.path
    contents = PackageContents(
        name=source.name,
        pipeline=source.pipeline,
        architecture=dict(source.architecture),
        weights=source.weights() if source.has_weights else None,
        graphs={name: one.graph for name, one in kept.items()},
        tolerances={name: one.tolerance for name, one in kept.items()},
        metrics=source.metrics,
        provenance=source.provenance.model_copy(update={"optimized_from": source.digest}),
        golden=source.golden,
        calibration=source.calibration(),
        holdout=source.holdout(),
        outputs=source.signature.outputs,
    )
    return write_package(directory, contents, _gate)


def _gate(staged: Path) -> None:
    """Every graph answers the golden rows in a library that may run it, and the real server does so too."""
    package, isa = ModelPackage.load(staged), Machine.detect().isa
    for graph in package.graphs:
        _check_graph(package, graph, [runtime for runtime in runtimes_of(graph, isa) if runtime != "torch"])
    if package.golden is not None:
        with child_server(staged) as url:
            served = served_predict(url, staged, package.golden.rows)
            compare(package.golden.expected, served, package.tolerances[FP32])


def _check_graph(package: ModelPackage, graph: str, libraries: Sequence[RuntimeName]) -> None:
    """Raise what the last library raised if none answers the golden rows; one that does not is not chosen later."""
    for library in libraries:
        try:
            with package.predictor(Candidate(library, graph)) as predictor:
                package.check_golden(predictor, graph=graph)
        except (*CANNOT_RUN, GoldenError):
            if library == libraries[-1]:
                raise
        else:
            return


def _answer(
    package: ModelPackage,
    precisions: Sequence[Precision],
    plans: Mapping[Objective, Plan[Candidate]],
    *,
    num_rows: int,
) -> JsonObject:
    base = len(precisions[0].graph)
    graphs: list[dict[str, Any]] = []
    for one in precisions:
        best = {objective: _best(plans[objective], one.name) for objective in OBJECTIVES}
        latency_s, row_s = best["latency"], best["throughput"]
        graphs.append(
            {
                "graph": one.name,
                "quality": one.quality,
                "drop": one.drop,
                "bytes": len(one.graph),
                "size": len(one.graph) / base,
                "p50_us": None if latency_s is None else latency_s * 1e6,
                "rows_per_s": None if row_s is None else 1.0 / row_s,
                "kept": one.is_kept,
                "verdict": one.verdict,
                "speed": "; ".join(_speed(one.name, plans)),
            }
        )
    return {
        "package": str(package.path),
        "judged_rows": num_rows,
        "graphs": graphs,
        "plans": {
            objective: {"key": plan.key, "chosen": str(plan.chosen), "reason": plan.reason, **asdict(plan.chosen)}
            for objective, plan in plans.items()
        },
        "trials": {
            objective: [[str(trial.candidate), trial.step_s, trial.verdict] for trial in plan.candidates]
            for objective, plan in plans.items()
        },
    }


def _speed(graph: str, plans: Mapping[Objective, Plan[Candidate]]) -> list[str]:
    """What a graph was chosen for, or by how much it is slower than what was; nothing where it was not timed."""
    told = []
    for objective, plan in plans.items():
        own_s, best_s = _best(plan, graph), _best(plan, plan.chosen.graph)
        if plan.chosen.graph == graph:
            told.append(f"chosen for {objective}")
        elif own_s is not None and best_s is not None:
            slower = own_s / best_s - 1.0
            how = "about as fast as" if slower < TIE else f"{slower:.0%} slower than"
            told.append(f"{how} {plan.chosen.graph} for {objective}")
    return told


def _best(plan: Plan[Candidate], graph: str) -> float | None:
    """Seconds a step of the fastest candidate with this graph."""
    times = [trial.step_s for trial in plan.candidates if trial.candidate.graph == graph and trial.step_s is not None]
    return min(times, default=None)


def _keep(answer: JsonObject, cache: Path, digest: str) -> Path:
    """The decisions and the page that tells them, in the cache; returns the page."""
    folder = cache / FOLDER / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "decisions.json", json.dumps(answer, indent=2).encode())
    write_atomic(folder / "report.html", optimized_page(answer).encode())
    return folder / "report.html"
