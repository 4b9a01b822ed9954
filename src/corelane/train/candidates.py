"""Which ways of running a step are worth a trial: pure functions of the network, the configuration and the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from corelane.machine.optimizer import Pass
from corelane.train.config import TrainConfig
from corelane.train.plan import Candidate, Engine, MemoryFormat, Precision

FEW_THREADS = 8  # up to here each number is tried; beyond, powers of two are near enough
ENGINES: tuple[Engine, ...] = ("graph", "compiled", "compiled_cpp")
"""Engines beside eager, in the order in which they are tried."""

BFLOAT16_ISA = frozenset({"avx512_bf16", "amx_bf16"})
"""With one of these bfloat16 is computed by the hardware; without, it was seen to be many times slower."""

BF32_ISA = frozenset({"amx_bf16"})
"""Without it torch goes on in float32: on AVX512_BF16 alone the losses were the same to seven digits."""

PRECISION_MARGIN = 0.1  # half the digits should be worth more than the noise of a measurement


def thread_counts(budget: int) -> tuple[int, ...]:
    """Numbers of threads to try within `budget`, the largest first."""
    counts = set(range(1, budget + 1)) if budget <= FEW_THREADS else {budget, *(2**power for power in range(12))}
    return tuple(sorted((count for count in counts if count <= budget), reverse=True))


def layouts(config: TrainConfig, module: torch.nn.Module) -> tuple[MemoryFormat, ...]:
    """Layouts to try, the likely better one first: one as configured, two where there is a 2-d convolution."""
    if config.memory_format != "auto":
        return (config.memory_format,)
    has_images = any(isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d) for part in module.modules())
    return ("channels_last", "contiguous") if has_images else ("contiguous",)


def precisions(isa: Sequence[str]) -> tuple[Precision, ...]:
    """Precisions to try on a machine with the instruction sets `isa`."""
    offered: dict[Precision, frozenset[str]] = {"bf16": BFLOAT16_ISA, "bf32": BF32_ISA}
    return ("float32", *(precision for precision, needed in offered.items() if needed & set(isa)))


def default_candidate(config: TrainConfig, module: torch.nn.Module, budget: int) -> Candidate:
    """What is used where nothing is searched; the reference where something is."""
    return Candidate(threads=budget, memory_format=layouts(config, module)[0])


def training_passes(
    config: TrainConfig,
    module: torch.nn.Module,
    *,
    budget: int,
    isa: Sequence[str],
    engines: Sequence[Engine] = ENGINES,
) -> list[Pass[Candidate]]:
    """The questions of the search, in order: threads and layout, precision, engines, and an engine's threads."""

    def eager(best: Candidate) -> Iterator[Candidate]:
        for threads in thread_counts(budget):
            for layout in layouts(config, module):
                yield replace(best, threads=threads, memory_format=layout)

    def precise(best: Candidate) -> Iterator[Candidate]:
        for precision in precisions(isa)[1:]:
            for layout in layouts(config, module):  # bfloat16's kernels may want the other one
                yield replace(best, precision=precision, memory_format=layout)

    def compiled(best: Candidate) -> Iterator[Candidate]:
        yield from (replace(best, engine=engine) for engine in engines)

    def retuned(best: Candidate) -> Iterator[Candidate]:
        if best.engine != "eager":
            yield from (replace(best, threads=threads) for threads in _neighbours(best.threads, budget))

    return [
        Pass(eager),
        Pass(precise, margin=PRECISION_MARGIN),
        Pass(compiled, is_compiled=True),
        Pass(retuned, is_compiled=True),
    ]


def all_candidates(
    config: TrainConfig,
    module: torch.nn.Module,
    *,
    budget: int,
    isa: Sequence[str],
    engines: Sequence[Engine] = ENGINES,
) -> list[Candidate]:
    """Every candidate there is, the default first: for an exhaustive search."""
    return [
        Candidate(threads, layout, engine, precision)
        for engine in ("eager", *engines)
        for precision in precisions(isa)
        for threads in thread_counts(budget)
        for layout in layouts(config, module)
    ]


def _neighbours(threads: int, budget: int) -> Iterator[int]:
    """Half as many threads, and twice as many where the budget has them."""
    yield from (count for count in (threads // 2, 2 * threads) if 1 <= count <= budget)
