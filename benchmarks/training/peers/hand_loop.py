"""Our plan's own step and batches, written out by hand without Corelane's trainer: what our abstractions may cost is
measured against it. Batches by index into a reused buffer; threads, layout, precision and engine of the plan.

The networks are Corelane's and so is the graph of a plan that compiles the whole step, so that nothing but the loop
differs; the settings of the process are those of a trainer: freed memory is kept, denormals are flushed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.training.cases import CASES as ALL
from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, Case, Work
from benchmarks.training.data import examples

CASES = tuple(ALL)
BETAS, EPSILON, WEIGHT_DECAY = (0.9, 0.999), 1e-8, 0.01  # AdamW's, of PyTorch and of Corelane

TakeStep = Callable[[], object]
"""Trains on what lies in the batch's buffers."""


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    import torch

    from corelane.machine.heap import kept_heap

    chosen = json.loads(work.plan.read_bytes())["chosen"]
    torch.set_num_threads(chosen["threads"])
    torch.set_flush_denormal(True)
    if chosen["precision"] == "bf32":
        for kind in (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv):
            kind.fp32_precision = "bf16"
    with kept_heap():
        return _train(case, work, chosen)


def _train(case: Case, work: Work, chosen: dict[str, Any]) -> list[float]:
    import torch

    values, labels = examples(case, work.data)
    is_channels_last = chosen["memory_format"] == "channels_last"
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    module = _network(case).to(memory_format=memory_format)
    inputs = torch.from_numpy(values[: case.batch_size].copy()).contiguous(memory_format=memory_format)
    targets = torch.from_numpy(labels[: case.batch_size].copy())
    gathered, gathered_labels = inputs.numpy(), targets.numpy()
    take_step = (_graph_step if chosen["engine"] == "graph" else _fused_step)(module, inputs, targets, chosen)
    num_steps = len(values) // case.batch_size
    random = np.random.default_rng(0)
    rates = []
    for _ in range(work.num_epochs):
        start = time.perf_counter()
        order = random.permutation(len(values))
        for step in range(num_steps):
            rows = order[step * case.batch_size : (step + 1) * case.batch_size]
            np.take(values, rows, axis=0, out=gathered, mode="clip")
            np.take(labels, rows, axis=0, out=gathered_labels, mode="clip")
            take_step()
        rates.append(num_steps * case.batch_size / (time.perf_counter() - start))
    return rates


def _network(case: Case) -> Any:
    """The network that Corelane trains in `case`."""
    from benchmarks.training.cases import NUM_CHANNELS, NUM_CLASSES, NUM_FEATURES, NUM_POSITIONS, NUM_TOKENS
    from corelane.data.stages.protocol import TensorSpec
    from corelane.model.config import ModelConfig
    from corelane.model.nets.build import build

    specs = {
        "images": TensorSpec("float32", (1, 28, 28)),
        "table": TensorSpec("float32", (NUM_FEATURES,)),
        "tokens": TensorSpec("int64", (NUM_POSITIONS,), NUM_TOKENS),
        "series": TensorSpec("float32", (50, NUM_CHANNELS)),
    }
    return build(ModelConfig(**case.model), {"input": specs[case.data]}, NUM_CLASSES, seed=0)


def _fused_step(module: Any, inputs: Any, targets: Any, chosen: dict[str, Any]) -> TakeStep:
    """Forward and backward, eager or compiled, and AdamW in one call that clips on its way."""
    import torch
    from torch.nn.functional import cross_entropy

    parameters = list(module.parameters())
    means, squares = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    steps = [torch.zeros(()) for _ in parameters]
    rules = {"lr": LEARNING_RATE, "beta1": BETAS[0], "beta2": BETAS[1], "weight_decay": WEIGHT_DECAY, "eps": EPSILON}

    def loss_of(inputs: Any, targets: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen["precision"] == "bf16"):
            logits = module(inputs)
        return cross_entropy(logits.float(), targets)

    if chosen["engine"] != "eager":
        options = {"cpp_wrapper": chosen["engine"] == "compiled_cpp"}
        loss_of = torch.compile(loss_of, dynamic=False, options=options)

    def take_step() -> None:
        loss_of(inputs, targets).backward()
        # Clipping inside the fused step: it divides the gradients by `grad_scale` on its way.
        gradients = [parameter.grad for parameter in parameters]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        scale = torch.clamp(norm / CLIP_NORM, min=1.0)
        with torch.no_grad():
            torch._foreach_add_(steps, 1.0)
            torch._fused_adamw_(
                *(parameters, gradients, means, squares, [], steps),
                **rules,
                amsgrad=False,
                maximize=False,
                grad_scale=scale,
            )
        for parameter in parameters:
            parameter.grad = None

    return take_step


def _graph_step(module: Any, inputs: Any, targets: Any, chosen: dict[str, Any]) -> TakeStep:
    """The whole step as one graph over weights and moments."""
    import torch
    from torch.nn.functional import cross_entropy

    from corelane.train.batches import by_columns
    from corelane.train.engines.graph import Rules, _compile
    from corelane.train.forward import Forward
    from corelane.train.precision import in_precision

    forward = Forward(in_precision(by_columns(module), chosen["precision"]), cross_entropy)
    weights = [parameter.detach() for parameter in module.parameters()]
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    rates = torch.tensor([LEARNING_RATE, 0.1, 0.001])
    arguments = [*weights, *means, *squares, inputs, targets, rates]
    graph = _compile(forward, Rules(*BETAS, EPSILON, WEIGHT_DECAY, CLIP_NORM), len(weights), arguments)
    corrections, step = rates.numpy(), 0

    def take_step() -> None:
        nonlocal step
        step += 1
        corrections[1:] = 1 - BETAS[0] ** step, 1 - BETAS[1] ** step
        graph(*arguments)

    return take_step
