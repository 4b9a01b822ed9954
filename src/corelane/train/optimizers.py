"""The optimisers, each in torch's fused form: one call updates all parameters, where the plain form makes ten a
tensor.

AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019. Adam: Kingma and Ba, ICLR 2015. SGD
with Nesterov's momentum: Sutskever et al., "On the importance of initialization and momentum", ICML 2013. Adagrad:
Duchi, Hazan, Singer, JMLR 12 (2011). Built by `learner.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from corelane.train.config import TrainConfig

Parameters = Sequence[Tensor]


def make_optimizer(config: TrainConfig, parameters: Parameters) -> Optimizer:
    """The configured optimiser over `parameters`. All of them scale gradients on their way (see `clipping.py`)."""
    return _MAKERS[config.optimizer](config, parameters)


def _adamw(config: TrainConfig, parameters: Parameters) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _adam(config: TrainConfig, parameters: Parameters) -> Optimizer:
    return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _sgd(config: TrainConfig, parameters: Parameters) -> Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0.0,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _adagrad(config: TrainConfig, parameters: Parameters) -> Optimizer:
    return torch.optim.Adagrad(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


_MAKERS: dict[str, Callable[[TrainConfig, Parameters], Optimizer]] = {
    "adamw": _adamw,
    "adam": _adam,
    "sgd": _sgd,
    "adagrad": _adagrad,
}
