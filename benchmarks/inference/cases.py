"""What is measured: networks, batch sizes, and the least ratios that are promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Quantity

ROWS = Quantity("rows/s", is_higher_better=True)
MICROSECONDS = Quantity("us", is_higher_better=False)
NUM_CLASSES = 10
NUM_FEATURES = 32


@dataclass(frozen=True, slots=True)
class Net:
    """A network of `model`, for images of 28x28 pixels or rows of 32 numbers; its weights are those it starts with."""

    model: Mapping[str, Any]
    is_of_images: bool


NETS: Mapping[str, Net] = {
    "mlp": Net({"net": "mlp", "hidden": [256, 256]}, is_of_images=False),
    "cnn": Net({"net": "cnn", "channels": [32, 64], "hidden": [128]}, is_of_images=True),
    "resnet-8": Net({"preset": "resnet-8", "net": "resnet"}, is_of_images=True),
    "tabm": Net({"net": "tabm"}, is_of_images=False),
}

MINILM = "minilm"  # was not trained here: `minilm.py`
PLAN_LOSS = 0.05  # how much slower than the best there is a plan may be
INT8_BATCH = 256
INT8_EPOCHS = 3
BARS: Mapping[tuple[str, str], float] = {
    ("int8-cnn", "fp32"): 1.4,
    ("offline-tabular", "hand-script"): 0.95,
    ("throttled-mlp", "ort-default"): 3.0,
}
MOST_DROP_POINTS = 0.3
MOST_SIZE = 0.3
MOST_THROTTLED = 0.01
OFFLINE_ROWS = 1_000_000
MOST_GROWTH = 1.1  # of the memory, from a million rows to ten
QUOTA_S, CALLS_PER_S, THROTTLED_BATCH = 6.0, 1000, 32
