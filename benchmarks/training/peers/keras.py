"""Keras on its JAX backend: a sequential model and `fit`, which draws, batches and compiles by itself."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_CLASSES, Case, Work
from benchmarks.training.data import whole_batches

CASES = ("mlp-b64",)


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    class Times(keras.callbacks.Callback):
        """How long each epoch took."""

        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, *_: Any) -> None:
            self._start = time.perf_counter()

        def on_epoch_end(self, *_: Any) -> None:
            self.seconds.append(time.perf_counter() - self._start)

    inputs, labels = whole_batches(case, work.data)
    hidden = [keras.layers.Dense(width, activation="relu") for width in case.hidden]
    model = keras.Sequential([keras.layers.Flatten(), *hidden, keras.layers.Dense(NUM_CLASSES)])
    model.compile(
        keras.optimizers.AdamW(LEARNING_RATE, global_clipnorm=CLIP_NORM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    times = Times()
    model.fit(inputs, labels, batch_size=case.batch_size, epochs=work.num_epochs, verbose=0, callbacks=[times])
    return [len(inputs) / seconds for seconds in times.seconds]
