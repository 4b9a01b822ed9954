"""What each layer costs when it is quantised: one run a layer, on a few rows, without a label."""

from __future__ import annotations

from collections.abc import Sequence

from corelane.core.types import NamedArrays
from corelane.model.quantize.logits import error_of, logits_of
from corelane.model.runtimes.onnx.quantizer import Quantizer


def layer_costs(graph: bytes, quantizer: Quantizer, batches: Sequence[NamedArrays]) -> dict[str, float]:
    """Error of the logits for `batches` when that layer alone is quantised, by layer, the largest first.

    `quantizer` is that of the float32 `graph`. The unit is `logits.error_of`'s. Layers are asked one at a time, since
    the errors of several add up: what is left when the worst is taken out is about the sum of the others.
    """
    exact = logits_of(graph, batches)
    costs = {
        layer: error_of(
            quantizer.quantized(keep=[other for other in quantizer.layers if other != layer]), batches, exact
        )
        for layer in quantizer.layers
    }
    return dict(sorted(costs.items(), key=lambda item: -item[1]))
