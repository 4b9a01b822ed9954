"""Which candidates are tried, on described machines."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import nn

from corelane.train.candidates import all_candidates, layouts, precisions, thread_counts, training_passes
from corelane.train.config import TrainConfig
from corelane.train.plan import Candidate

BIG_ISA = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


def tried(net: nn.Module, budget: int, isa: Sequence[str], **settings: object) -> list[list[Candidate]]:
    """The candidates of each pass, were the first of each the best."""
    best, found = Candidate(budget), []
    for one in training_passes(TrainConfig(**settings), net, budget=budget, isa=isa, engines=("compiled", "graph")):
        found.append(list(one.around(best)))
        best = found[-1][-1] if found[-1] else best
    return found


@pytest.mark.parametrize(
    ("budget", "counts"),
    [(1, (1,)), (2, (2, 1)), (6, (6, 5, 4, 3, 2, 1)), (24, (24, 16, 8, 4, 2, 1)), (64, (64, 32, 16, 8, 4, 2, 1))],
)
def test_few_thread_counts_are_tried_one_by_one(budget: int, counts: tuple[int, ...]) -> None:
    """Up to eight each number, beyond that powers of two and the whole budget; the largest first."""
    assert thread_counts(budget) == counts


def test_layouts_follow_the_net_or_the_configuration() -> None:
    """Two where there is a 2-d convolution, unless configured."""
    assert layouts(TrainConfig(), nn.Linear(2, 2)) == ("contiguous",)
    assert layouts(TrainConfig(), nn.Sequential(nn.Conv2d(1, 2, 3))) == ("channels_last", "contiguous")
    assert layouts(TrainConfig(memory_format="contiguous"), nn.Conv2d(1, 2, 3)) == ("contiguous",)


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        (("avx2", "fma"), ("float32",)),
        (("avx512f", "avx512_vnni"), ("float32",)),
        (("avx512_bf16",), ("float32", "bf16")),
        (("amx_tile", "amx_bf16"), ("float32", "bf16", "bf32")),
        (("neon", "bf16"), ("float32",)),
    ],
)
def test_bfloat16_is_tried_where_the_hardware_computes_it(isa: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """AVX512_BF16 or AMX; bf32 needs AMX, since torch ignores it elsewhere."""
    assert precisions(isa) == expected


def test_a_machine_with_64_cores_and_bfloat16() -> None:
    """A CNN there: 14 eager candidates, two more precisions in both layouts, then each engine, then its threads."""
    eager, precise, compiled, retuned = tried(nn.Conv2d(1, 2, 3), 64, BIG_ISA)
    assert len(set(eager)) == 14
    assert {candidate.threads for candidate in eager} == {1, 2, 4, 8, 16, 32, 64}
    assert {(candidate.precision, candidate.memory_format) for candidate in precise} == {
        (precision, layout) for precision in ("bf16", "bf32") for layout in ("contiguous", "channels_last")
    }
    assert [candidate.engine for candidate in compiled] == ["compiled", "graph"]
    assert {candidate.threads for candidate in retuned} <= {1, 2, 32}
    assert all(candidate.engine == "graph" for candidate in retuned)


def test_an_exhaustive_list_has_all_combinations() -> None:
    """Threads times layouts times precisions times engines, the default first."""
    found = all_candidates(TrainConfig(), nn.Conv2d(1, 2, 3), budget=2, isa=BIG_ISA, engines=("compiled",))
    assert len(set(found)) == len(found) == 2 * 2 * 3 * 2
    assert found[0] == Candidate(2, "channels_last")
