"""JAX with optax: the whole step under `jit`, its state donated, batches indexed from NumPy."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_CLASSES, Case, Work
from benchmarks.training.data import examples

CASES = ("mlp-b64", "cnn-b64")

Layers = list[tuple[Any, Any]]
"""A kernel and a bias of each layer: those of convolutions [3, 3, from, to], then those of linear layers [from, to]."""


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    import jax
    import optax

    inputs, labels = examples(case, work.data)
    images = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))  # channels last, as JAX has them
    layers = _initial(case, images.shape[1:])
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adamw(LEARNING_RATE))

    def loss_of(layers: Layers, inputs: Any, labels: Any) -> Any:
        logits = _logits(layers, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(layers: Layers, state: Any, inputs: Any, labels: Any) -> tuple[Layers, Any, Any]:
        loss, gradients = jax.value_and_grad(loss_of)(layers, inputs, labels)
        updates, state = optimizer.update(gradients, state, layers)
        return optax.apply_updates(layers, updates), state, loss

    state = optimizer.init(layers)
    num_steps, random, rates = len(images) // case.batch_size, np.random.default_rng(0), []
    for _ in range(work.num_epochs):
        start = time.perf_counter()
        order = random.permutation(len(images))
        for at in range(num_steps):
            chosen = order[at * case.batch_size : (at + 1) * case.batch_size]
            layers, state, _ = step(layers, state, images[chosen], labels[chosen])
        jax.block_until_ready(layers)
        rates.append(num_steps * case.batch_size / (time.perf_counter() - start))
    return rates


def _initial(case: Case, shape: tuple[int, ...]) -> Layers:
    """He's normal kernels and no biases, for images of `shape`, height and width and channels."""
    import jax
    import jax.numpy as jnp

    height, width, depth = shape
    shapes: list[tuple[int, ...]] = []
    for channels in case.channels:
        shapes.append((3, 3, depth, channels))
        height, width, depth = height // 2, width // 2, channels
    widths = [height * width * depth, *case.hidden, NUM_CLASSES]
    shapes += pairwise(widths)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    make = jax.nn.initializers.he_normal()
    return [(make(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, shapes, strict=True)]


def _logits(layers: Layers, images: Any) -> Any:
    """[n, height, width, channels] to [n, 10]."""
    import jax
    from jax import lax

    hidden = images
    for kernel, bias in (layer for layer in layers if layer[0].ndim == 4):
        hidden = lax.conv_general_dilated(hidden, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        hidden = jax.nn.relu(hidden + bias)
        hidden = lax.reduce_window(hidden, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    hidden = hidden.reshape(len(hidden), -1)
    *linear, (kernel, bias) = [layer for layer in layers if layer[0].ndim == 2]
    for weight, shift in linear:
        hidden = jax.nn.relu(hidden @ weight + shift)
    return hidden @ kernel + bias
