"""The arithmetic that every scaled number goes through, in both ways: (x - center) * scale in float64, then float32.

One kernel is what makes training and serving equal bit for bit. Results beyond float32 are clipped to its largest
finite value, so that no row can put an infinity into the network. Scalings that are no straight line are in
`curved.py` and end here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corelane.core.types import Array, FloatArray

Float64Array = NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
_SAFE_SQUARE = 1e76  # a sum of squares below this proves every element finite and within float32 (LARGEST**2 is 1.2e77)
_PIECE_VALUES = 1 << 17  # scaled together: a megabyte, so that the passes over them stay within a core's cache


class Affine:
    """`center` and `scale` per element [d]; frozen, safe to share between threads."""

    __slots__ = ("center", "scale")

    def __init__(self, center: Float64Array, scale: Float64Array) -> None:
        self.center = center
        self.scale = scale

    def apply(self, values: Array, fill: Float64Array | None = None) -> FloatArray:
        """Numbers [n, d] to float32 [n, d]. A NaN becomes what `fill` [d] (in the units of `values`) would become."""
        scaled = np.empty(values.shape, dtype=np.float32)
        self.apply_into(values, fill, scaled)
        return scaled

    def apply_into(self, values: Array, fill: Float64Array | None, out: FloatArray) -> None:
        """`apply`, written into `out` [n, d]; fastest when each column of `values` lies together in memory."""
        num_rows, num_columns = values.shape
        if values.size <= _PIECE_VALUES:
            self._apply_piece(values, slice(None), fill, out)
            return
        is_by_column = values.flags.f_contiguous
        height = max(1, min(num_rows, _PIECE_VALUES // (1 if is_by_column else max(num_columns, 1))))
        width = max(1, _PIECE_VALUES // height)
        for top in range(0, num_rows, height):
            rows = slice(top, top + height)
            for left in range(0, num_columns, width):
                columns = slice(left, left + width)
                self._apply_piece(values[rows, columns], columns, fill, out[rows, columns])

    def _apply_piece(self, values: Array, columns: slice, fill: Float64Array | None, out: FloatArray) -> None:
        center, scale = self.center[columns], self.scale[columns]
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Float64Array = np.subtract(values, center, dtype=np.float64)
            np.multiply(scaled, scale, out=scaled)
            # The two comparisons cost a third of what they save, and fail for a NaN as well.
            if not (scaled.max(initial=0.0) <= LARGEST and scaled.min(initial=0.0) >= -LARGEST):
                if fill is not None:
                    np.copyto(scaled, (fill[columns] - center) * scale, where=np.isnan(scaled))
                np.clip(scaled, -LARGEST, LARGEST, out=scaled)
        out[...] = scaled.astype(np.float32)  # first where it lies together: across rows only half the bytes are moved

    def apply_ordinary(self, values: Array) -> FloatArray | None:
        """`apply` for finite numbers [n, d]; None as soon as one is NaN, infinite or too large for float32.

        One dot product is the whole test: it costs 0.4 us for a row where `isfinite().all()` costs 3.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Float64Array = np.subtract(values, self.center, order="C", dtype=np.float64)
            np.multiply(scaled, self.scale, out=scaled)
            flat = scaled.ravel()
            if flat.dot(flat) < _SAFE_SQUARE:
                return scaled.astype(np.float32)
        return None
