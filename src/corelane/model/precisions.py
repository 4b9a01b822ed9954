"""The graphs of a package in other precisions, each judged on rows that training did not learn from.

A graph survives when it loses no more than a bound of the float32 graph's quality. Where int8 loses too much, the
layers that cost most are left in float32 (`quantize/`). How fast graphs are is asked later (`optimize.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from corelane.core.errors import SkewError
from corelane.core.types import Array, NamedArrays
from corelane.model.candidate import SAFE, Candidate, RuntimeName
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.model.quality import agreement, answers_to, quality_of
from corelane.model.quantize.calibrate import calibrate
from corelane.model.quantize.mixed import mixed_graph
from corelane.model.quantize.sensitivity import layer_costs
from corelane.model.runtimes.graph_file import GraphFile
from corelane.model.runtimes.onnx.quantizer import QuantizeError
from corelane.model.runtimes.opening import BF16, CANNOT_RUN, INT16, open_runtime, runtimes_of
from corelane.model.skew import Tolerance

FP32, INT8, MIXED = "fp32", "int8", "mixed"
CALIBRATION_ROWS = 512  # ranges of activations settle within a few hundred rows
CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class Precision:
    """One graph: its bytes, how good its answers are in the worst of its libraries, and what became of it in words.

    `drop` is what it loses of the float32 graph's quality, `tolerance` how far its answers may lie from those.
    """

    name: str
    graph: bytes
    quality: float
    drop: float
    tolerance: Tolerance
    verdict: str
    is_kept: bool


class Precisions:
    """Makes and judges the graphs of `package`.

    `calibration` and `judged` are checked rows, the latter with their target; `isa` are the machine's instruction sets.
    """

    def __init__(
        self,
        package: ModelPackage,
        *,
        calibration: pa.Table,
        judged: pa.Table,
        isa: Sequence[str],
        most_drop: float,
    ) -> None:
        self._package = package
        self._judged = judged
        self._isa = isa
        self._most_drop = most_drop
        self._fp32 = package.graphs[FP32].read_bytes()
        self._calibration = _inputs(package, calibration)
        self._exact = self._answers(self._fp32, SAFE)
        self._quality = self._quality_of(self._exact)

    def all(self) -> Iterator[Precision]:
        """fp32, then bf16 where the machine has it, int8, a mixture where int8 loses too much, and int16."""
        tolerance = self._package.tolerances[FP32]
        yield Precision(FP32, self._fp32, self._quality, 0.0, tolerance, "the reference", is_kept=True)
        if self._libraries(BF16):
            yield self._judge(BF16, self._fp32)
        try:
            yield from self._quantized()
        except (QuantizeError, *CANNOT_RUN) as error:
            yield Precision(INT8, b"", -math.inf, math.inf, tolerance, f"cannot be made: {error}", is_kept=False)

    def _quantized(self) -> Iterator[Precision]:
        quantizer = calibrate(self._fp32, self._calibration).quantizer
        yield (int8 := self._judge(INT8, quantizer.quantized()))
        if not int8.is_kept:
            costs = layer_costs(self._fp32, quantizer, self._calibration[:1])
            mixed = mixed_graph(quantizer, list(costs), lambda graph: self._judge(MIXED, graph).drop, self._most_drop)
            if mixed is not None:
                remark = f"; {len(mixed.kept)} of {len(costs)} layers stay in fp32"
                yield self._judge(MIXED, mixed.graph, remark)
        yield self._judge(INT16, quantizer.quantized("int16"))

    def _judge(self, name: str, graph: bytes, remark: str = "") -> Precision:
        """The quality in the library where it is worst, of those that can run it."""
        answers = []
        for library in self._libraries(name):
            try:
                answers.append(self._answers(graph, Candidate(library, name)))
            except CANNOT_RUN:
                continue  # it cannot be run there, and will not be
        tolerance = self._package.tolerances[FP32]
        if not answers:
            return Precision(name, graph, -math.inf, math.inf, tolerance, "no library can run it", is_kept=False)
        quality = min(map(self._quality_of, answers))
        drop = self._quality - quality
        verdict = f"loses {max(drop, 0.0):.2%}" if drop <= self._most_drop else ""
        try:
            tolerance = tolerance.widened(self._exact, answers)
        except SkewError:
            drop, verdict = math.inf, "gives answers that are not finite"
        verdict = verdict or f"loses {drop:.2%}, more than {self._most_drop:.2%}"
        return Precision(name, graph, quality, drop, tolerance, verdict + remark, drop <= self._most_drop)

    def _quality_of(self, answers: Mapping[str, Array]) -> float:
        target = self._package.pipeline.target
        return agreement(answers, self._exact) if target is None else quality_of(answers, self._judged, target)

    def _libraries(self, graph: str) -> tuple[RuntimeName, ...]:
        """Those that read a graph's file; torch runs weights, and is as exact as what it was trained with."""
        return tuple(name for name in runtimes_of(graph, self._isa) if name != "torch")

    def _answers(self, graph: bytes, candidate: Candidate) -> dict[str, Array]:
        runtime = open_runtime(GraphFile(graph, candidate.graph), candidate)
        with Predictor(self._package.pipeline, self._package.decoder, runtime) as predictor:
            return answers_to(predictor, self._judged)


def _inputs(package: ModelPackage, rows: pa.Table) -> list[NamedArrays]:
    """What the network gets of `rows`, in batches."""
    features = rows.select([column.name for column in package.pipeline.schema.columns])
    batches = features.slice(0, CALIBRATION_ROWS).combine_chunks().to_batches(CALIBRATION_BATCH)
    return [package.pipeline.transform(batch) for batch in batches]
