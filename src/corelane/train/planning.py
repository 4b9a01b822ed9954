"""Choosing the plan of a run: searched on this machine, taken from the cache, fixed, or read from a file.

Called by `app` before the training. The search runs in a torch thread of its own, on copies, and leaves the network and
the random generators as they were: the same plan and seed give the same bytes with and without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from corelane import __version__
from corelane.core.clock import Clock
from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.data.order import epoch_order
from corelane.data.prepared import PreparedData
from corelane.data.processor import CPUDataProcessor
from corelane.machine.cpu import Machine
from corelane.machine.optimizer import TOLERANCE, CPUOptimizer, Found, UnusableError
from corelane.machine.others import OthersWatch
from corelane.machine.plan import Plan as MachinePlan
from corelane.machine.plan import Trial, key_of
from corelane.store.plan_cache import PlanCache
from corelane.train import randomness
from corelane.train.augment import augmenter_for
from corelane.train.batches import TensorBatch, TensorBatches
from corelane.train.candidates import ENGINES, all_candidates, default_candidate, training_passes
from corelane.train.config import WITHOUT_EFFECT, TrainConfig
from corelane.train.losses import loss_for
from corelane.train.plan import Candidate, Engine, Plan, plan_of_run, read_plan
from corelane.train.room import fitted_to_room
from corelane.train.torch_thread import run_in_torch_thread
from corelane.train.trials import Trials

NUM_BATCHES = 8  # of real data, over and over: a step's time does not depend on which
COPIES = 2  # of the network that lie in memory at a time, with gradients and moments: the two layouts
STATES_PER_WEIGHT = 4  # itself, the gradient, the two moments
BUSY_SHARE = (
    0.2  # of the CPUs: with more, two threads wait for each other, and one was seen to win that loses when quiet
)
WITHOUT_TIME = {
    *("epochs", "learning_rate", "weight_decay", "warmup_fraction", "scheduler", "early_stopping_patience"),
    *("log_interval", "rollback_rate_factor", "fine_tune"),
}
"""Settings that move no step's time: runs that differ in them share a plan."""


@dataclass(frozen=True)
class Site:
    """Where a run is planned: the machine, the threads it may use, what its process was started with."""

    machine: Machine
    threads: int
    environment: Mapping[str, str]


class Planner:
    """Chooses plans for training `module` on `data` at `site`, and keeps them in `cache`.

    `room_bytes` is the memory that copies of the network may take; where they do not fit, nothing is searched.
    `engines` are tried beside eager. A plan searched while others used more than `busy_share` of the CPUs is this run's
    only.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        module: torch.nn.Module,
        data: PreparedData,
        processor: CPUDataProcessor,
        seed: int,
        site: Site,
        cache: PlanCache[Candidate],
        clock: Clock,
        should_stop: Callable[[], bool],
        room_bytes: float = math.inf,
        engines: Sequence[Engine] = ENGINES,
        busy_share: float = BUSY_SHARE,
    ) -> None:
        self._busy_share = busy_share
        self._config = config
        self._module = module
        self._data = data
        self._processor = processor
        self._seed = seed
        self._site = site
        self._cache = cache
        self._clock = clock
        self._should_stop = should_stop
        self._room_bytes = room_bytes
        self._engines = engines
        self._batch_size = min(config.batch_size, data.train.num_rows)
        self._num_steps = config.epochs * (data.train.num_rows // self._batch_size)

    def plan(self, directory: Path, mode: str = "auto") -> Plan:
        """The plan of the run in `directory`, durable there: its own, else as `mode` says.

        `mode` is auto (from the cache, else searched), eager (fixed) or the path of a file with a plan. Raises
        `StateError` for a broken plan of the run or in that file, `ConfigError` without one, `InterruptedRunError`.
        """
        makers: dict[str, Callable[[], Plan]] = {
            "auto": partial(self._in_thread, directory, self._kept_or_searched),
            "eager": self.fixed,
        }
        return plan_of_run(directory, makers.get(mode, partial(_from_file, Path(mode))))

    def fixed(self) -> Plan:
        """The plan without a search: eager, as many threads as the budget has."""
        return self._fixed(self._config, "as configured")

    def search(self, directory: Path) -> Plan:
        """A plan searched now, whatever the cache has. Raises `InterruptedRunError`."""
        return self._in_thread(directory, self._searched)

    def exhaust(self, directory: Path) -> Plan:
        """The plan that timing every candidate at length gives, whatever it costs: what a search is measured by."""
        return self._in_thread(directory, self._exhausted)

    def _in_thread(self, directory: Path, choose: Callable[[TrainConfig, Callable[[], bool]], Plan]) -> Plan:
        def work(should_stop: Callable[[], bool]) -> Plan:
            state = randomness.capture()
            config = fitted_to_room(self._config, directory, self._module, self._data, self._room_bytes)
            try:
                return choose(config, should_stop)
            except UnusableError as error:
                return self._fixed(config, f"since {error}")
            finally:
                randomness.restore(state)

        return run_in_torch_thread(work, num_threads=self._site.threads, should_stop=self._should_stop)

    def _kept_or_searched(self, config: TrainConfig, should_stop: Callable[[], bool]) -> Plan:
        kept = self._cache.get(self._key(config))
        if kept is not None:
            return kept
        others = OthersWatch(self._site.machine.logical_cpus)
        plan = self._searched(config, should_stop)
        share = others.share()
        if share > self._busy_share:
            note = f"others used {share:.0%} of the processor meanwhile, so it is not kept for other runs"
            return replace(plan, reason=f"{plan.reason}; {note}")
        self._cache.put(plan)
        return plan

    def _searched(self, config: TrainConfig, should_stop: Callable[[], bool]) -> Plan:
        site, module = self._site, self._module
        passes = training_passes(config, module, budget=site.threads, isa=site.machine.isa, engines=self._engines)
        first = default_candidate(config, module, site.threads)
        return self._made(self._optimizer(config, should_stop).search(first, passes), config)

    def _exhausted(self, config: TrainConfig, should_stop: Callable[[], bool]) -> Plan:
        site, module = self._site, self._module
        candidates = all_candidates(config, module, budget=site.threads, isa=site.machine.isa, engines=self._engines)
        return self._made(self._optimizer(config, should_stop).exhaust(candidates), config)

    def _optimizer(self, config: TrainConfig, should_stop: Callable[[], bool]) -> CPUOptimizer[Candidate]:
        """A search over learners. Raises `UnusableError` where their copies have no room."""
        if COPIES * STATES_PER_WEIGHT * _num_bytes(self._module) > self._room_bytes:
            raise UnusableError("the memory has no room for copies of the network")
        trials = Trials(
            config,
            self._module,
            loss_for(self._data.pipeline.target, config),
            batches=self._batches(),
            total_steps=self._num_steps,
            micro_batch_size=config.micro_batch_size or self._batch_size,
            clock=self._clock,
            should_stop=should_stop,
        )
        return CPUOptimizer(prepare=trials.prepare, num_steps=self._num_steps, clock=self._clock)

    def _fixed(self, config: TrainConfig, why: str) -> Plan:
        chosen = default_candidate(config, self._module, self._site.threads)
        return self._made(Found(chosen, (Trial(chosen, "fixed, not timed"),), f"{chosen}: fixed, {why}"), config)

    def _batches(self) -> list[TensorBatch]:
        part = self._data.train
        order = epoch_order(self._seed, 0, part.num_rows, part.row_bytes)
        augment = augmenter_for(self._config.augment, self._data.pipeline, self._seed)
        batches = TensorBatches(self._processor, channels_last=False)
        some = batches.of(part, order, self._batch_size, drop_last=True, change=augment.epoch(0, 0))
        return [([tensor.clone() for tensor in inputs], target.clone()) for inputs, target in islice(some, NUM_BATCHES)]

    def _made(self, found: Found[Candidate], config: TrainConfig) -> Plan:
        return MachinePlan(
            key=self._key(config),
            candidates=found.trials,
            chosen=found.chosen,
            reason=found.reason,
            tolerance=TOLERANCE,
            environment=dict(self._site.environment),
        )

    def _key(self, config: TrainConfig) -> str:
        """Everything that may move a time. Planned steps count by their power of two: only what is compiled depends on
        them, and where it pays twice over or not at all, a factor below two decides nothing."""
        site = self._site
        excluded = WITHOUT_TIME | {name for name in WITHOUT_EFFECT if "." not in name}
        inputs = {name: [str(values.dtype), *values.shape[1:]] for name, values in self._data.train.inputs.items()}
        return key_of(
            {
                "network": network_facts(self._module),
                "inputs": inputs,
                "task": self._data.pipeline.schema.task,
                "settings": config.model_dump(mode="json", exclude=excluded),
                "batch": [self._batch_size, config.micro_batch_size or self._batch_size],
                "steps": self._num_steps.bit_length(),
                "machine": [site.machine.model_name, *site.machine.isa, site.machine.physical_cores],
                "threads": site.threads,
                "environment": dict(site.environment),
                "engines": list(self._engines),
                "versions": {"corelane": __version__, "torch": str(torch.__version__)},
            }
        )


def _from_file(path: Path) -> Plan:
    try:
        return read_plan(path)
    except OSError as error:
        raise ConfigError(
            f"machine.plan must be auto, eager or a file with a plan, got {path} ({error.strerror}); "
            "name the plan.json of a run"
        ) from error


def network_facts(module: torch.nn.Module) -> JsonObject:
    """What tells networks apart whose steps take different times: the parts, their options, the shapes of tensors."""
    parts = [[name, type(part).__qualname__, _options(part)] for name, part in module.named_modules()]
    shapes = [[name, str(tensor.dtype), *tensor.shape] for name, tensor in module.state_dict().items()]
    return {"parts": parts, "shapes": shapes}


def _options(part: torch.nn.Module) -> str:
    """A layer's options in torch's words; a user's own words may hold addresses, which differ from run to run."""
    return part.extra_repr() if type(part).__module__.startswith("torch.nn.") else ""


def _num_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])
