"""The arithmetic that every scaled number goes through, in both ways: (x - center) * scale in float64, then float32.

One kernel is what makes training and serving equal bit for bit. Results beyond float32 are clipped to its largest
finite value, so that no row can put an infinity into the network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corelane.core.types import Array, FloatArray

Float64Array = NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
_SAFE_SQUARE = 1e76  # a sum of squares below this proves every element finite and within float32 (LARGEST**2 is 1.2e77)


class Affine:
    """`center` and `scale` per element [d]; frozen, safe to share between threads."""

    __slots__ = ("center", "scale")

    def __init__(self, center: Float64Array, scale: Float64Array) -> None:
        self.center = center
        self.scale = scale

    def apply(self, values: Array, fill: Float64Array | None = None) -> FloatArray:
        """Numbers [n, d] to float32 [n, d]. A NaN becomes what `fill` [d] (in the units of `values`) would become."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self._scale(values)
            if fill is not None:
                np.copyto(scaled, (fill - self.center) * self.scale, where=np.isnan(scaled))
            np.clip(scaled, -LARGEST, LARGEST, out=scaled)
        return scaled.astype(np.float32)

    def apply_ordinary(self, values: Array) -> FloatArray | None:
        """`apply` for finite numbers [n, d]; None as soon as one is NaN, infinite or too large for float32.

        One dot product is the whole test: it costs 0.4 us for a row where `isfinite().all()` costs 3.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self._scale(values)
            flat = scaled.ravel()
            if flat.dot(flat) < _SAFE_SQUARE:
                return scaled.astype(np.float32)
        return None

    def _scale(self, values: Array) -> Float64Array:
        scaled: Float64Array = np.subtract(values, self.center, order="C", dtype=np.float64)
        np.multiply(scaled, self.scale, out=scaled)
        return scaled
