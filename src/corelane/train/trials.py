"""Candidates made ready for a trial: short learners on copies of the network, over real batches of the run's own data.

The search times them (`machine/optimizer.py`). Nothing that the run starts from is changed: the network is copied, and
what the copies draw from the random generators is undone by the caller.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from weakref import WeakValueDictionary

import torch

from corelane.core.clock import Clock
from corelane.core.errors import InterruptedRunError
from corelane.machine.optimizer import UnusableError
from corelane.machine.time_limit import TimeLimitReached, time_limit
from corelane.train import randomness
from corelane.train.batches import TensorBatch
from corelane.train.config import TrainConfig
from corelane.train.learner import Learner
from corelane.train.losses import Loss
from corelane.train.plan import Candidate
from corelane.train.timing import StopWatch

COMPARED_STEPS = 4  # losses are compared over so many: enough for a wrong gradient to show in the next loss
DRAWS_ALLOWANCE = 3.0  # times what other random numbers change the loss: where dropout draws in another order
SMALLEST_LOSS = 1e-6  # where the loss is nought, as nothing is left to learn, its last bits decide nothing
SEED = 0


class Trials:
    """Makes candidates ready over `batches`, the first of them being the reference for the losses of the others.

    `limit_s` of `prepare` holds for the first steps, compiling included. `should_stop` is asked between slices.
    """

    def __init__(
        self,
        config: TrainConfig,
        module: torch.nn.Module,
        loss: Loss,
        *,
        batches: Sequence[TensorBatch],
        total_steps: int,
        micro_batch_size: int,
        clock: Clock,
        should_stop: Callable[[], bool],
    ) -> None:
        self._config = config
        self._module = module
        self._loss = loss
        self._batches = batches
        self._total_steps = total_steps
        self._micro_batch_size = micro_batch_size
        self._clock = clock
        self._should_stop = should_stop
        self._copies: WeakValueDictionary[Candidate, _Copy] = WeakValueDictionary()
        self._agreement: _Agreement | None = None
        self.running: _TrainingRig | None = None

    def prepare(self, candidate: Candidate, limit_s: float) -> _TrainingRig:
        """`candidate` ready to be timed. Raises `UnusableError`, `InterruptedRunError`."""
        self.check_stop()
        torch.set_num_threads(candidate.threads)
        copied = self._copy_for(candidate, limit_s)
        if self._agreement is None:
            self._agreement = self._agreement_with(copied, candidate)
        return _TrainingRig(candidate, copied, self._agreement.distance(copied.losses), self)

    def check_stop(self) -> None:
        """Raises `InterruptedRunError` when the run was asked to stop."""
        if self._should_stop():
            raise InterruptedRunError(
                "training must run to its end, got a request to stop while its plan was searched; no step is taken, "
                "run the same command again with --resume"
            )

    @property
    def clock(self) -> Clock:
        """What measures the time."""
        return self._clock

    def _copy_for(self, candidate: Candidate, limit_s: float) -> _Copy:
        """A new copy, or the one of an eager candidate that differs in the number of threads only."""
        shared = replace(candidate, threads=0) if candidate.engine == "eager" else candidate
        copied = self._copies.get(shared)
        if copied is None:
            copied = self._copies[shared] = self._new_copy(candidate, limit_s, SEED)
        return copied

    def _new_copy(self, candidate: Candidate, limit_s: float, seed: int) -> _Copy:
        try:
            module = copy.deepcopy(self._module)
        except Exception as error:
            raise UnusableError(f"the network cannot be copied: {_first_line(error)}") from error
        began = self._clock.monotonic()
        try:
            with time_limit(limit_s):
                return _Copy(self._learner(candidate, module), self._laid_out(candidate), seed, began, self._clock)
        except TimeLimitReached as error:
            torch.compiler.reset()  # what the compiler was in the middle of
            raise UnusableError(f"it was not ready within {limit_s:.2g} s") from error
        except Exception as error:
            if candidate.engine == "eager":
                raise  # the network itself is at fault, or the data
            raise UnusableError(_first_line(error)) from error

    def _learner(self, candidate: Candidate, module: torch.nn.Module) -> Learner:
        learner = Learner(
            self._config,
            module,
            self._loss,
            candidate=candidate,
            total_steps=self._total_steps,
            micro_batch_size=self._micro_batch_size,
            watch=StopWatch(self._clock),
        )
        learner.start()
        return learner

    def _laid_out(self, candidate: Candidate) -> Iterator[TensorBatch]:
        if candidate.memory_format != "channels_last":
            return cycle(self._batches)
        return cycle([([_channels_last(tensor) for tensor in inputs], target) for inputs, target in self._batches])

    def _agreement_with(self, copied: _Copy, candidate: Candidate) -> _Agreement:
        """What losses are compared with from now on; where `copied` draws random numbers, how much they matter."""
        if not all(math.isfinite(loss) for loss in copied.losses):
            raise UnusableError("the first losses are not finite")
        agreement = _Agreement(copied.losses)
        if not copied.draws:
            return agreement
        other = self._new_copy(candidate, math.inf, SEED + 1)
        return _Agreement(copied.losses, DRAWS_ALLOWANCE * agreement.distance(other.losses))


@dataclass(frozen=True)
class _Agreement:
    """The losses of the reference, and the relative distance from them that other random numbers explain."""

    losses: Sequence[float]
    allowance: float = 0.0

    def distance(self, losses: Sequence[float]) -> float:
        """The largest relative distance, beyond what is explained; NaN when a loss is not finite."""
        if not all(math.isfinite(loss) for loss in losses):
            return math.nan
        pairs = zip(losses, self.losses, strict=True)
        furthest = max(abs(loss - expected) / max(abs(expected), SMALLEST_LOSS) for loss, expected in pairs)
        return max(0.0, furthest - self.allowance)


class _Copy:
    """A learner of its own that has taken its first steps; their losses, and whether they drew random numbers."""

    def __init__(self, learner: Learner, batches: Iterator[TensorBatch], seed: int, began: float, clock: Clock) -> None:
        self._learner = learner
        self._batches = batches
        randomness.seed_generators(seed)
        before = randomness.capture()
        self.losses = [self.step()]
        first_s = clock.monotonic() - began
        self.losses += [self.step() for _ in range(COMPARED_STEPS - 2)]
        began = clock.monotonic()
        self.losses.append(self.step())
        self.startup_s = max(0.0, first_s - (clock.monotonic() - began))
        self.draws = randomness.capture() != before

    def step(self) -> float:
        """Take a step on the next batch, and return its loss."""
        return self._learner.step(next(self._batches)).loss.item()


class _TrainingRig:
    """A candidate that is ready; those that differ in threads only share a copy. As `machine.optimizer.Rig`."""

    def __init__(self, candidate: Candidate, copied: _Copy, agreement: float, trials: Trials) -> None:
        self._candidate = candidate
        self._copy = copied
        self._trials = trials
        self.agreement = agreement
        # Eager has nothing to compile; what its first step takes longer, the first candidate would pay for all.
        self.startup_s = 0.0 if candidate.engine == "eager" else copied.startup_s

    def time(self, num_steps: int) -> float:
        """Seconds of `num_steps` steps; where another candidate ran before, one more brings caches and threads back."""
        trials, step, clock = self._trials, self._copy.step, self._trials.clock
        trials.check_stop()
        if trials.running is not self:
            torch.set_num_threads(self._candidate.threads)
            trials.running = self
            step()
        began = clock.monotonic()
        for _ in range(num_steps):
            step()
        return clock.monotonic() - began


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _first_line(error: Exception) -> str:
    """What an error says in at most one short line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
