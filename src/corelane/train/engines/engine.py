"""Which engines can train a network with given settings, and the one that a candidate names. Used by `learner.py` and
by the search for a plan.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.optim import Optimizer

from corelane.core.errors import ConfigError
from corelane.train.averaging import Averaging
from corelane.train.config import TrainConfig
from corelane.train.engines.compiled import compiled
from corelane.train.engines.graph import GraphStep
from corelane.train.forward import Forward
from corelane.train.losses import Loss
from corelane.train.plan import Candidate
from corelane.train.schedule import Schedule
from corelane.train.step import EagerStep, Step
from corelane.train.timing import StopWatch
from corelane.train.update import Update


def make_step(
    candidate: Candidate,
    config: TrainConfig,
    module: nn.Module,
    loss: Loss,
    *,
    optimizer: Optimizer,
    schedule: Schedule,
    average: Averaging,
    update: Update,
    watch: StopWatch,
    after_piece: Callable[[], None],
) -> Step:
    """The step that `candidate` names; a compiled one is compiled when it first runs.

    Raises `ConfigError` when its engine cannot train this network with these settings.
    """
    if why := why_not(candidate, config, module):
        raise ConfigError(f"the plan's engine must be able to run, got {candidate.engine!r}: {why}; use eager")
    forward = Forward(module, loss)
    if candidate.engine == "eager":
        return EagerStep(forward, update, watch, after_piece)
    if candidate.engine == "graph":
        return GraphStep(
            config,
            forward,
            optimizer=optimizer,
            schedule=schedule,
            average=average,
            watch=watch,
            otherwise=EagerStep(forward, update, watch, after_piece),
        )
    return EagerStep(compiled(forward, is_cpp=candidate.engine == "compiled_cpp"), update, watch, after_piece)


def why_not(candidate: Candidate, config: TrainConfig, module: nn.Module) -> str:
    """Why the engine of `candidate` cannot train `module` as the eager one does; empty when it can.

    Compiled dropout draws other noise. The whole graph would have to take statistics (batch norm) back after a step
    that is not finite, and has only AdamW with clipping by norm.
    """
    if candidate.engine == "eager":
        return ""
    if any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in module.modules()):
        return "the network has dropout, whose noise would be another when compiled"
    if candidate.engine != "graph":
        return ""
    if any(buffer.is_floating_point() for buffer in module.buffers()):
        return "the network keeps statistics of its batches"
    if config.optimizer != "adamw" or config.clip_value is not None:
        return "the whole graph has only AdamW, with clipping by norm"
    return ""
