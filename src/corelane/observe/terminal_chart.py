"""Curves as text: points drawn with braille dots, two across and four down in each character cell.

For whoever watches a run in a terminal; pages have SVG (`drawing/`). Called by `train.watching`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLANK = 0x2800  # U+2800, the braille cell without dots; each dot is one bit of what is added to it
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # the two columns of a cell, from the top
_ACROSS, _DOWN = len(_DOTS), len(_DOTS[0])
_LABEL_WIDTH = 9

Points = Sequence[tuple[float, float]]
"""(x, y) pairs, finite, ascending in x."""


def braille_chart(points: Points, *, width: int, height: int, last_x: float) -> list[str]:
    """The curve through `points` in `height` lines of at most `width` characters, x from 0 to `last_x`.

    The lowest and the highest y stand at the left edge. Without points there are empty lines.
    """
    columns = max(1, width - _LABEL_WIDTH - 1)
    ys = [y for _, y in points] or [0.0]
    low, high = min(ys), max(ys)
    cells = [[_BLANK] * columns for _ in range(height)]
    previous: int | None = None
    for x, y in points:
        across = min(columns * _ACROSS - 1, int(x / max(last_x, 1e-9) * columns * _ACROSS))
        share = (high - y) / (high - low) if high > low else 0.5
        down = min(height * _DOWN - 1, int(share * height * _DOWN))
        for dot in _between(previous, down):
            cells[dot // _DOWN][across // _ACROSS] |= _DOTS[across % _ACROSS][dot % _DOWN]
        previous = down
    labels = [_label(high), *[" " * _LABEL_WIDTH] * (height - 2), _label(low)] if height > 1 else [_label(low)]
    return [f"{label} {''.join(map(chr, row))}" for label, row in zip(labels, cells, strict=True)]


def _between(previous: int | None, now: int) -> range:
    """The dots from the last point's height to this one's, so that a steep curve has no holes."""
    if previous is None or previous == now:
        return range(now, now + 1)
    return range(previous + 1, now + 1) if previous < now else range(now, previous)


def _label(value: float) -> str:
    return f"{value:.3g}".rjust(_LABEL_WIDTH) if math.isfinite(value) else " " * _LABEL_WIDTH
