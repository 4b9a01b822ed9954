"""scikit-learn's `MLPClassifier`: Adam, no clipping, its own shuffling. `partial_fit` takes one epoch of steps."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.training.cases import LEARNING_RATE, NUM_CLASSES, NUM_THREADS, Case, Work
from benchmarks.training.data import whole_batches

CASES = ("mlp-b64", "tabular-b256")


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    inputs, labels = whole_batches(case, work.data)
    rows = inputs.reshape(len(inputs), -1)
    model = MLPClassifier(case.hidden, solver="adam", batch_size=case.batch_size, learning_rate_init=LEARNING_RATE)
    rates = []
    with threadpool_limits(NUM_THREADS):
        for _ in range(work.num_epochs):
            start = time.perf_counter()
            model.partial_fit(rows, labels, classes=np.arange(NUM_CLASSES))
            rates.append(len(rows) / (time.perf_counter() - start))
    return rates
