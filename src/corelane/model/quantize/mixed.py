"""A graph of mixed precision: int8 but for as few layers as an accuracy bound allows, which stay float32.

The layers are ordered by what they cost alone (`sensitivity.py`); how many of the worst must stay is found by halving,
and each of those is then tried in int8 once more. What accuracy is, the caller says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corelane.model.runtimes.onnx.quantizer import Quantizer

Drop = Callable[[bytes], float]
"""How much a graph loses against the float32 one on held-out rows; for a regression the relative rise of its error."""

MAX_RELEASES = 8  # of the layers that stay, how many are tried again: each is a pass over the held-out rows


@dataclass(frozen=True)
class Mixed:
    """A graph within the bound: its bytes, its float32 layers (none: all are int8), and what it loses."""

    graph: bytes
    kept: tuple[str, ...]
    drop: float


def mixed_graph(quantizer: Quantizer, costly_first: Sequence[str], drop_of: Drop, max_drop: float) -> Mixed | None:
    """The graph within `max_drop` with the fewest float32 layers that this search finds; None when none may be int8.

    `costly_first` are the quantiser's layers, the most costly first.
    """

    def with_kept(kept: Sequence[str]) -> Mixed:
        graph = quantizer.quantized(keep=kept)
        return Mixed(graph, tuple(kept), drop_of(graph))

    best = with_kept(())
    if best.drop <= max_drop:
        return best
    found = _fewest(costly_first, with_kept, max_drop)
    return None if found is None else _released(found, with_kept, max_drop)


def _fewest(costly_first: Sequence[str], with_kept: Callable[[Sequence[str]], Mixed], max_drop: float) -> Mixed | None:
    """The fewest of the worst that are enough, by halving."""
    found: Mixed | None = None
    too_few, enough = 0, len(costly_first)  # with all of them float32 nothing is lost, and nothing won
    while enough - too_few > 1:
        tried = with_kept(costly_first[: (too_few + enough) // 2])
        if tried.drop <= max_drop:
            found, enough = tried, len(tried.kept)
        else:
            too_few = len(tried.kept)
    return found


def _released(mixed: Mixed, with_kept: Callable[[Sequence[str]], Mixed], max_drop: float) -> Mixed:
    """`mixed` without the float32 layers that prove needless, the least costly tried first."""
    for layer in mixed.kept[-2 : -2 - MAX_RELEASES : -1]:  # the last one was needed: halving found that
        tried = with_kept([other for other in mixed.kept if other != layer])
        if tried.drop <= max_drop:
            mixed = tried
    return mixed
