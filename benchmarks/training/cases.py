"""What is trained: each case's network, batch size and data, the same for every engine; and the bars.

No framework here, so that any peer's environment can read it; how a framework builds the network is the peer's own
matter. All cases: cross-entropy, AdamW 1e-3, gradient norm clipped at 1.0, shuffled each epoch, the last short batch
dropped, two threads; the figure is the fastest epoch after the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Quantity

NUM_THREADS = 2
LEARNING_RATE = 1e-3
CLIP_NORM = 1.0
NUM_CLASSES = 10
RATE = Quantity("examples/s", is_higher_better=True)
SECONDS = Quantity("s", is_higher_better=False)
NUM_PLANNED_EPOCHS = 200  # what a plan is searched for: compiling may pay

NUM_TOKENS, NUM_POSITIONS = 1000, 64  # of transformer-b32: the vocabulary, and the length of every text
NUM_STEPS, NUM_CHANNELS = 50, 16  # of gru-b64: the length of every series, and the numbers at each of its points
NUM_FEATURES = 32  # of tabular-b256


@dataclass(frozen=True, slots=True)
class Case:
    """One network on one data set. `net`, `hidden` and `channels` are as in our `model` section.

    `data` is what `data.py` calls it: images, table, tokens or series.
    """

    name: str
    batch_size: int
    data: str
    net: str
    hidden: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()

    @property
    def model(self) -> dict[str, Any]:
        """Our `model` section; what it leaves out are the defaults, which the definitions were made of."""
        options = {"hidden": list(self.hidden), "channels": list(self.channels)}
        return {"net": self.net, **{name: widths for name, widths in options.items() if widths}}


@dataclass(frozen=True, slots=True)
class Work:
    """What an engine is to do with a case: train so many epochs. `data` is the folder of Fashion-MNIST.

    `plan` is the plan file of our side, for the engines that follow it.
    """

    data: Path
    num_epochs: int
    plan: Path


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("mlp-b64", batch_size=64, data="images", net="mlp", hidden=(256, 256)),
        Case("cnn-b64", batch_size=64, data="images", net="cnn", hidden=(128,), channels=(32, 64)),
        Case("tabular-b256", batch_size=256, data="table", net="mlp", hidden=(256, 256)),
        Case("transformer-b32", batch_size=32, data="tokens", net="transformer"),
        Case("gru-b64", batch_size=64, data="series", net="gru"),
    )
}

FRAMEWORK_SHARE = 0.05  # of the time of a step: what Corelane may cost beside the same step written out by hand
PLAN_LOSS = 0.05  # how much longer a run may take with the plan that was searched than with the best one
FIRST_STEP_S: Mapping[str, float] = {"first-step-eager": 2.0, "first-step-compiled": 5.0}

BARS: Mapping[tuple[str, str], float] = {
    **{(case, "hand-loop"): 1 - FRAMEWORK_SHARE for case in CASES},
    ("mlp-b64", "torch-dataloader"): 1.6,
    ("mlp-b64", "lightning"): 2.1,
    ("mlp-b64", "sklearn"): 2.7,
    ("mlp-b64", "keras"): 1.0,
    ("mlp-b64", "jax"): 0.98,
    ("cnn-b64", "torch-dataloader"): 1.4,
    ("cnn-b64", "lightning"): 1.4,
    ("cnn-b64", "jax"): 2.5,
    ("tabular-b256", "torch-dataloader"): 2.0,
    ("tabular-b256", "sklearn"): 1.5,
    ("transformer-b32", "torch-dataloader"): 1.0,
    ("gru-b64", "torch-dataloader"): 1.0,
}
"""The least ratio that is promised, by case and peer."""
