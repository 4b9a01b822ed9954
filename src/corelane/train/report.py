"""`report.html`: what a run reached, its curves, where it errs, and what took the time. Drawn by `observe.report`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from corelane.core.types import JsonObject
from corelane.data.pipeline import Pipeline
from corelane.model.scores import class_qualities
from corelane.observe.report import Cell, Chart, Facts, Matrix, Note, Scatter, Section, Series, Table, render_report
from corelane.store.bundle import write_atomic
from corelane.train.history import History
from corelane.train.metrics import Evaluation, LabelQuality
from corelane.train.plan import Plan
from corelane.train.result import TrainResult

MAX_MATRIX_CLASSES = 30  # a larger matrix cannot be read; the table of classes stays
MAX_CONCERNS = 20  # `corelane data check` has all of them
MAX_POINTS = 1000  # of a curve: more than the pixels it is drawn on

_ABBREVIATIONS = {"f1": "F1", "auroc": "AUROC", "rmse": "RMSE", "mae": "MAE", "r2": "R2", "brier": "Brier score"}


def write_report(
    path: Path,
    title: str,
    result: TrainResult,
    history: History,
    pipeline: Pipeline,
    plan: Plan,
    concerns: Sequence[str] = (),
) -> None:
    """Write the report of a finished run to `path`, whole or not at all. Raises `DiskFullError`.

    `concerns` are what bodes ill in the data, in words.
    """
    subtitle = f"{pipeline.target.task.replace('_', '-')} of {pipeline.target.name}"
    sections = list(_sections(result, history, pipeline, plan))
    if concerns:
        sections.insert(1, Note("Worth a thought about the data", concerns[:MAX_CONCERNS]))
    write_atomic(path, render_report(title, subtitle, sections).encode())


def _sections(result: TrainResult, history: History, pipeline: Pipeline, plan: Plan) -> Iterator[Section]:
    steps, epochs = _thinned(list(history.entries("step"))), list(history.entries("epoch"))
    yield Facts("The run", _facts(result))
    yield from _curves(steps, epochs)
    if result.test is not None:
        yield from _quality(result.test, "test part, looked at once, at the end", pipeline)
    elif result.validation is not None:
        yield from _quality(result.validation, "validation part, which also chose the weights", pipeline)
    yield _time(result)
    yield Note("The plan", [plan.reason])
    yield _plan(plan)


def _facts(result: TrainResult) -> list[tuple[str, Cell]]:
    return [
        *((_in_words(name), round(value, 4)) for name, value in result.metrics.items()),
        ("epochs, stopped early" if result.stopped_early else "epochs", result.num_epochs),
        ("steps", result.num_steps),
        ("best weights at step", result.best_step),
        ("training examples/s", round(result.examples_per_s)),
        ("time", f"{sum(result.seconds.values()):.1f} s"),
    ]


def _curves(steps: Sequence[JsonObject], epochs: Sequence[JsonObject]) -> Iterator[Section]:
    losses = [_series("training", steps, "loss") if steps else _series("training", epochs, "train_loss")]
    if any("validation_loss" in entry for entry in epochs):
        losses.append(_series("validation", epochs, "validation_loss"))
    yield Chart("Loss", "step", "loss", losses)
    for name in ("validation_accuracy", "validation_auroc", "validation_macro_f1", "validation_r2"):
        if any(name in entry for entry in epochs):
            quality = _in_words(name.removeprefix("validation_"))
            yield Chart(
                f"{quality[0].upper()}{quality[1:]} on the validation part",
                "step",
                quality,
                [_series(quality, epochs, name)],
            )
    if steps:
        yield Chart("Learning rate", "step", "learning rate", [_series("rate", steps, "learning_rate")])


def _in_words(metric: str) -> str:
    """The name of a quality as it is written in prose: validation micro F1 for validation_micro_f1."""
    return " ".join(_ABBREVIATIONS.get(word, word) for word in metric.split("_"))


def _series(name: str, entries: Sequence[JsonObject], key: str) -> Series:
    """The values under `key`, where there is one: what was not finite has none."""
    entries = [entry for entry in entries if key in entry]
    return Series(name, [entry["step"] for entry in entries], [entry[key] for entry in entries])


def _quality(evaluation: Evaluation, part: str, pipeline: Pipeline) -> Iterator[Section]:
    rows = f"{evaluation.num_rows} rows of the {part}"
    if evaluation.confusion is not None:
        labels = pipeline.target.labels
        if len(labels) <= MAX_MATRIX_CLASSES:
            yield Matrix("Confusion matrix", labels, labels, evaluation.confusion.tolist(), note=rows)
        qualities = class_qualities(evaluation.confusion)
        counts = evaluation.confusion.sum(axis=1)
        table = [_class_row(*row) for row in zip(labels, counts, qualities, strict=True)]
        yield Table("Classes", ["class", "rows", "precision", "recall", "F1"], table, note=rows)
    if evaluation.roc is not None:
        positive, area = pipeline.target.labels[1], evaluation.qualities["auroc"]
        lines = [Series("network", *evaluation.roc), Series("chance", [0.0, 1.0], [0.0, 1.0])]
        note = f"{positive} is positive; area {area:.4f}; {rows}"
        yield Chart("ROC curve", "false positive rate", "true positive rate", lines, note=note)
    if evaluation.labels is not None:
        yield _labels(evaluation.labels, pipeline.target.labels, rows)
    if evaluation.pairs is not None:
        actual, predicted = evaluation.pairs
        shown = f"{len(actual)} of {rows}"
        residuals = [one - other for one, other in zip(actual, predicted, strict=True)]
        yield Scatter("Predicted over actual", "actual", "predicted", actual, predicted, diagonal=True, note=shown)
        yield Scatter("Residuals", "predicted", "actual - predicted", predicted, residuals, note=shown)


def _class_row(label: str, num_rows: int, qualities: Iterable[float]) -> list[Cell]:
    """NaN, where a class does not occur at all, is an empty cell."""
    return [label, int(num_rows), *(None if math.isnan(value) else round(float(value), 4) for value in qualities)]


def _labels(found: LabelQuality, labels: Sequence[str], rows: str) -> Table:
    table = [
        _class_row(label, count, [*qualities, area])
        for label, count, qualities, area in zip(labels, found.num_rows, found.qualities, found.auroc, strict=True)
    ]
    return Table("Labels", ["label", "rows that have it", "precision", "recall", "F1", "AUROC"], table, note=rows)


def _time(result: TrainResult) -> Table:
    total = max(sum(result.seconds.values()), 1e-9)
    rows: list[list[Cell]] = [
        [phase, round(taken, 3), f"{taken / total:.1%}"] for phase, taken in result.seconds.items()
    ]
    note = (
        f"All attempts of the run together. {result.overhead_share:.1%} of the steps' time (data and other) went to "
        "neither the network nor its optimiser: what the framework costs."
    )
    return Table("What took the time", ["phase", "seconds", "share"], rows, note=note)


def _plan(plan: Plan) -> Table:
    """Each candidate with its time and its verdict, as `corelane plan show` has them."""
    rows: list[list[Cell]] = [
        [
            str(trial.candidate),
            None if trial.step_s is None else round(trial.step_s * 1e3, 4),
            round(trial.startup_s, 2),
            None if trial.agreement is None else f"{trial.agreement:.3%}",
            trial.verdict,
        ]
        for trial in plan.candidates
    ]
    columns = ["way of running a step", "ms a step", "s to start", "losses off by", "verdict"]
    note = f"Losses may be off by {plan.tolerance:.1%} from those of the first." if plan.tolerance else ""
    return Table("What was tried for the plan", columns, rows, note=note)


def _thinned(entries: list[JsonObject]) -> list[JsonObject]:
    return entries[:: max(1, -(-len(entries) // MAX_POINTS))]
