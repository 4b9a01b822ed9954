"""Which engines can train a network with given settings, and the one that a candidate names. Used by `learner.py` and
by the search for a plan.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from corelane.core.errors import ConfigError
from corelane.train.averaging import Averaging
from corelane.train.config import TrainConfig
from corelane.train.engines.compiled import compiled
from corelane.train.engines.first_look import CHANGES, FirstLook
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

    Raises `ConfigError` when its engine cannot train this network with these settings; so does the first step, for what
    only a batch can show.
    """

    def refusal(why: str) -> ConfigError:
        return ConfigError(f"the plan's engine must be able to run, got {candidate.engine!r}: {why}; use eager")

    if why := why_not(candidate, config, module):
        raise refusal(why)
    forward = Forward(module, loss)
    step: Step
    if candidate.engine == "eager":
        return EagerStep(forward, update, watch, after_piece)
    if candidate.engine == "graph":
        step = GraphStep(
            config,
            forward,
            optimizer=optimizer,
            schedule=schedule,
            average=average,
            watch=watch,
            otherwise=EagerStep(forward, update, watch, after_piece),
        )
    else:
        step = EagerStep(compiled(forward, is_cpp=candidate.engine == "compiled_cpp"), update, watch, after_piece)
    return FirstLook(step, module, forward, may_change=candidate.engine != "graph", refuse=refusal)


def why_not(candidate: Candidate, config: TrainConfig, module: nn.Module) -> str:
    """Why the engine of `candidate` cannot train `module` as the eager one does; empty when nothing forbids it.

    Compiled dropout draws other noise. The whole graph would have to take statistics (batch norm) back after a step
    that is not finite, and has only AdamW with clipping by norm. Parts of torch are known here, those of others show in
    their first batch.
    """
    if candidate.engine == "eager":
        return ""
    if any(_dropout_of(part) > 0 for part in module.modules()):
        return "the network has dropout, whose noise would be another when compiled"
    if candidate.engine != "graph":
        return ""
    if any(isinstance(part, _NormBase) and part.track_running_stats for part in module.modules()):
        return CHANGES
    if config.optimizer != "adamw" or config.clip_value is not None:
        return "the whole graph has only AdamW, with clipping by norm"
    return ""


def _dropout_of(part: nn.Module) -> float:
    if isinstance(part, _DropoutNd):
        return part.p
    if isinstance(part, nn.RNNBase):
        return part.dropout if part.num_layers > 1 else 0.0  # it acts between layers
    return part.dropout if isinstance(part, nn.MultiheadAttention) else 0.0
