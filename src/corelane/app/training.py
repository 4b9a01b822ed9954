"""From a configuration to a trained run: builds source, pipeline, net and trainer, and gives them one run directory.

`train` does it in this process, for Python callers. `train_supervised` does it in a child process that is started again
when it dies, for the command line; `train_run` is what that child calls. All of them meet in `_train_in`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from corelane.app.archiving import archive_run
from corelane.app.compiling import compile_cache
from corelane.app.config import (
    RootConfig,
    cache_directory,
    data_section,
    dump,
    first_change,
    from_values,
    load_root,
    pool_settings,
    spin_setting,
)
from corelane.app.fine_tuning import load_start, pipeline_of_start, with_start
from corelane.app.memory import managed_memory, reserved_for, room_for_batches
from corelane.app.plans import planned_environment
from corelane.app.recording import recorded_run
from corelane.app.run_records import run_key
from corelane.app.runs import (
    CONFIG_NAME,
    find_run,
    forget_error,
    held,
    is_finished,
    new_run,
    raise_recorded_error,
    read_result,
    recorded_errors,
    save_run_data,
)
from corelane.app.sources import open_source
from corelane.app.tiers import disk_tier, memory_tier, shared_tier
from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError, CorelaneError
from corelane.data.config import SourceConfig
from corelane.data.prepare import prepare
from corelane.data.prepared import PreparedData
from corelane.data.processor import CPUDataProcessor
from corelane.data.source import DataSource
from corelane.data.sources.memory import InMemorySource
from corelane.machine.cpu import Budget, Machine
from corelane.machine.process import resident_bytes
from corelane.machine.stop_signals import StopSignals, stop_requested
from corelane.model.choose import choose_net, resolved
from corelane.model.nets.build import build_for, fit_inputs
from corelane.observe.log import SystemLogger
from corelane.store.bundle import write_atomic
from corelane.store.plan_cache import PlanCache
from corelane.store.tiers.disk import DiskTier
from corelane.train.freezing import freeze
from corelane.train.heartbeat import NO_HEART, Heart, heart_of
from corelane.train.live import make_progress
from corelane.train.micro_batch import within_memory
from corelane.train.mirror import Mirror, NoMirror, SharedMirror
from corelane.train.plan import candidate_of
from corelane.train.planning import Planner, Site
from corelane.train.progress import TrainingProgress
from corelane.train.record import Observer, StepRecord
from corelane.train.recover import FaultTolerantTrainer, read_restarts
from corelane.train.run import TrainResult, run_training
from corelane.train.stacks import stacks_on_request

Sources = tuple[DataSource, DataSource | None]
"""Where the rows come from, and the test set of its own if there is one."""


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, what it reached, and the trained module with the best weights."""

    directory: Path
    result: TrainResult
    module: nn.Module


def train(
    config: Mapping[str, Any] | str | Path,
    *,
    data: object = None,
    test: object = None,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    runs: Path | str = "runs",
    resume: bool = False,
    strict: bool = False,
    quiet: bool = False,
) -> Run:
    """Train in this process and return the finished run.

    `config` is a file or its content as nested mappings. `data` (and `test`) may be rows in memory instead of a
    configured source: a mapping of NumPy arrays, a PyArrow table, or a list of dicts. `model` may be a module instead
    of a configured net; it takes the pipeline's tensors in order and returns [n, number of classes or labels],
    or [n, 1] for two labels and for a regression. `observers` are called with a `StepRecord` after every step.
    `strict` makes a broken checkpoint an error, where otherwise an older one is used.

    Raises `ConfigError`, `DataError`, `NonFiniteLossError`, `DiskFullError`.
    """
    if isinstance(config, Mapping):
        root = from_values(_with_memory(config, data, test), base=Path())
    else:
        root = load_root(Path(config))
    root = _with_start(root, Path(runs), resume)
    with _held_run(root, Path(runs), resume) as directory, recorded_run(directory, root.observe):
        run = _train_in(
            directory,
            root,
            (data, test),
            module=model,
            resume=resume,
            strict=strict,
            quiet=quiet,
            observers=observers,
        )
        archive_run(directory, root)
        return run


def train_supervised(
    config: Path,
    overrides: Sequence[str] = (),
    *,
    runs: Path,
    resume: bool,
    quiet: bool,
    watch: bool = False,
    strict: bool = False,
) -> dict[str, Any]:
    """Train in a child process that is started again, from its last checkpoint, when it dies; return the run's result.

    Raises what `train` raises, `InterruptedRunError` when it was asked to stop, and `WorkerLostError` when its retries
    are used up.
    """
    root = _with_start(load_root(config, overrides), runs, resume)
    _refuse_memory(root)
    with _held_run(root, runs, resume) as directory, recorded_run(directory, root.observe):
        if not is_finished(directory):
            _train_in_child(directory, root, resume=resume, quiet=quiet, watch=watch, strict=strict)
            archive_run(directory, root)
        restarts = [f"{restart.reason}; {restart.action}" for restart in read_restarts(directory)]
        return {**read_result(directory), **({"restarts": restarts} if restarts else {})}


def _train_in_child(directory: Path, root: RootConfig, *, resume: bool, quiet: bool, watch: bool, strict: bool) -> None:
    settings = spin_setting(planned_environment(directory, root.machine.plan))
    argv = [*settings, sys.executable, "-m", "corelane", "train-worker", "--run", str(directory)]
    argv += ["--quiet"] * quiet + ["--watch"] * watch + ["--resume"] * resume + ["--strict"] * strict
    with _logger(root, directory, quiet=True) as logger, StopSignals(keeps_second=True) as signals:
        trainer = FaultTolerantTrainer(
            root.train,
            argv=argv,
            directory=directory,
            logger=logger,
            should_stop=signals.is_asked,
            should_leave=signals.is_urgent,
            before_start=lambda: forget_error(directory),
        )
        code, was_asked = trainer.train_with_recovery(), signals.is_asked()
    raise_recorded_error(directory, code, was_asked=was_asked)


def train_run(
    directory: Path,
    *,
    resume: bool,
    quiet: bool,
    watch: bool = False,
    strict: bool = False,
    until_step: float = math.inf,
) -> Run:
    """Train the run whose resolved configuration lies in `directory`: what the supervised child does.

    An error is left in the directory for the parent to tell, which also watches where we are. After `until_step` it
    saves and stops, as when asked to.
    """
    root = load_root(directory / CONFIG_NAME)
    with recorded_errors(directory), stacks_on_request(directory / "logs"), heart_of(directory) as heart:
        return _train_in(
            directory,
            root,
            (None, None),
            module=None,
            resume=resume,
            strict=strict,
            quiet=quiet,
            watch=watch,
            heart=heart,
            until_step=until_step,
        )


def budget_of(config: RootConfig) -> Budget:
    """Threads and memory: what is configured, or what this machine, its quota and its limits allow."""
    return Machine.detect().budget(config.machine)


def prepare_run(
    root: RootConfig, sources: Sources, directory: Path, cache: DiskTier, logger: SystemLogger
) -> PreparedData:
    """Validate, fit and write (or find again) the prepared arrays of a run; bad rows go to its quarantine file."""
    budget = budget_of(root)
    with CPUDataProcessor(num_workers=budget.threads) as processor:
        return prepare(
            sources[0],
            data_section(root),
            root.pipeline,
            seed=root.seed,
            cache=cache,
            quarantine=directory / "quarantine.parquet",
            test_source=sources[1],
            processor=processor,
            logger=logger,
            memory_budget_bytes=budget.data_bytes,
            taken_over=pipeline_of_start(root, directory),
        )


def initial_module(root: RootConfig, data: PreparedData) -> nn.Module:
    """The configured net, its weights drawn from the run's seed; it has seen what it must of the training part."""
    module = build_for(root.model, data.pipeline, seed=root.seed)
    fit_inputs(module, data.train)
    return module


def _train_in(
    directory: Path,
    root: RootConfig,
    rows: tuple[object, object],
    *,
    module: nn.Module | None,
    resume: bool,
    strict: bool,
    quiet: bool,
    watch: bool = False,
    heart: Heart = NO_HEART,
    observers: Sequence[Observer] = (),
    until_step: float = math.inf,
) -> Run:
    """`rows` are those of the source and of the test source as handed over in Python; None where a file is read."""
    with _logger(root, directory, quiet=quiet) as logger:
        heart.enter("prepare")
        cache = disk_tier(root, logger)
        data = prepare_run(root, _sources(root, *rows, cache, logger), directory, cache, logger)
        root = _with_network(root, directory, data, logger, has_own_module=module is not None)
        module = module if module is not None else initial_module(root, data)
        if root.train.fine_tune is not None:
            anew = load_start(module, root, data.pipeline, directory)
            logger.training.info("fine_tuning_started", package=root.train.fine_tune.package, reset=anew)
        progress = make_progress(quiet=quiet, watch=watch)
        heart.enter("plan")
        with stop_requested() as should_stop:  # not before: preparing has no steps to stop after, and may take hours
            result = train_prepared(
                directory,
                root,
                data,
                module,
                disk=cache,
                logger=logger,
                progress=progress,
                should_stop=should_stop,
                resume=resume,
                heart=heart,
                observers=observers,
                strict=strict,
                until_step=until_step,
            )
    return Run(directory, result, module)


def train_prepared(
    directory: Path,
    root: RootConfig,
    data: PreparedData,
    module: nn.Module,
    *,
    disk: DiskTier,
    logger: SystemLogger,
    progress: TrainingProgress,
    should_stop: Callable[[], bool],
    resume: bool,
    heart: Heart = NO_HEART,
    observers: Sequence[Observer] = (),
    strict: bool = False,
    until_step: float = math.inf,
) -> TrainResult:
    """Train `module` on prepared data into the run `directory`; its best weights are in it afterwards."""
    budget, config = budget_of(root), within_memory(root.train, directory)
    until = _Until(until_step, should_stop)
    num_threads = budget.threads
    freeze(module, config.freeze)  # before memory is counted: what is frozen has no gradient and no moments
    with (
        compile_cache(root),
        managed_memory(budget, logger) as memory,
        reserved_for(module, memory),
        closing(memory_tier(root.machine, memory, logger)) as cache,
        CPUDataProcessor(num_workers=num_threads, pipeline=data.pipeline, memory=memory) as processor,
    ):
        planner = Planner(
            config,
            module=module,
            data=data,
            processor=processor,
            seed=root.seed,
            site=Site(Machine.detect(), num_threads, pool_settings()),
            cache=PlanCache(cache_directory(root), logger, candidate_of),
            clock=SystemClock(),
            should_stop=should_stop,
            room_bytes=room_for_batches(memory),
        )
        plan = planner.plan(directory, root.machine.plan)
        logger.training.info("plan_chosen", chosen=str(plan.chosen), reason=plan.reason, key=plan.key)
        progress.message(f"plan: {plan.reason}")
        return run_training(
            directory,
            config,
            module=module,
            data=data,
            processor=processor,
            logger=logger,
            plan=plan,
            seed=root.seed,
            progress=progress,
            clock=SystemClock(),
            should_stop=until.should_stop,
            resume=resume,
            strict=strict,
            mirror=_mirror(directory, root, logger),
            title=root.name,
            cache=cache,
            disk=disk,
            heart=heart,
            observers=[until, *observers],
            room_bytes=room_for_batches(memory),
        )


def _with_network(
    root: RootConfig, directory: Path, data: PreparedData, logger: SystemLogger, *, has_own_module: bool
) -> RootConfig:
    """`root` with the network that the data get where none is named; it and the data are written into the run."""
    inputs = data.pipeline.outputs
    model = root.model if has_own_module else resolved(root.model, inputs)
    model = save_run_data(directory, data, has_own_module=has_own_module, model=model)
    if model.net != root.model.net:
        logger.training.info("network_chosen", net=model.net, chosen_for=choose_net(inputs)[1])
    return root.model_copy(update={"model": model})


def _mirror(directory: Path, root: RootConfig, logger: SystemLogger) -> Mirror:
    if not root.train.mirror_checkpoints:
        return NoMirror()
    store = shared_tier(root.machine)
    if store is None:
        raise ConfigError(
            "machine.cache_shared must be set for train.mirror_checkpoints, got null; name a storage that machines "
            "share"
        )
    return SharedMirror(store, run_key(directory), logger)  # by its key alone: a directory may be renamed


class _Until:
    """Watches the steps, and asks for a stop after the one at which a replay ends."""

    def __init__(self, step: float, should_stop: Callable[[], bool]) -> None:
        self._step = step
        self._should_stop = should_stop
        self._is_reached = False

    def __call__(self, record: StepRecord) -> None:
        self._is_reached = record.step >= self._step

    def should_stop(self) -> bool:
        return self._is_reached or self._should_stop()


def _with_start(root: RootConfig, runs: Path, resume: bool) -> RootConfig:
    return with_start(root, find_run(runs, root.name) if resume else None)


@contextmanager
def _held_run(root: RootConfig, runs: Path, resume: bool) -> Iterator[Path]:
    """The newest run to go on with, or a new one, with `resume` too where none has begun; held for us alone."""
    data_section(root)
    newest = find_run(runs, root.name) if resume else None
    directory = new_run(runs, root.name, dump(root)) if newest is None else newest
    with held(directory):
        if newest is not None:
            _take_over(newest, root)
        yield directory


def _take_over(newest: Path, root: RootConfig) -> None:
    """Go on with `newest` under `root`, which must not change what was begun; what may differ holds from now on."""
    change = first_change(load_root(newest / CONFIG_NAME), root)
    if change is not None:
        raise ConfigError(
            f"--resume must go on with the configuration of {newest}, got another {change}; undo the change"
        )
    write_atomic(newest / CONFIG_NAME, dump(root).encode())


def _sources(root: RootConfig, data: object, test: object, cache: DiskTier, logger: SystemLogger) -> Sources:
    section = data_section(root)

    def opened(config: SourceConfig) -> DataSource:
        return open_source(config, cache=cache, tell=lambda event, fields: logger.data.info(event, **fields))

    own_test = opened(section.test) if section.test is not None else None
    return (
        InMemorySource(data) if data is not None else opened(section.source),
        InMemorySource(test) if test is not None else own_test,
    )


def _with_memory(config: Mapping[str, Any], data: object, test: object) -> dict[str, Any]:
    """`config` with memory sources named where rows were handed over in Python."""
    section = dict(config.get("data", {}))
    given = {"source": data, "test": test}
    section.update({key: {"type": "memory"} for key, rows in given.items() if rows is not None})
    return {**config, "data": section}


def _refuse_memory(root: RootConfig) -> None:
    if data_section(root).source.type == "memory":
        raise ConfigError(
            "data.source must not be memory for `corelane train`, got rows in memory; call corelane.app.train in Python"
        )


@contextmanager
def _logger(root: RootConfig, directory: Path, *, quiet: bool) -> Iterator[SystemLogger]:
    """Everything goes to the run's files; the terminal has the progress display and hears of trouble only."""
    logger = SystemLogger(
        root.observe,
        directory=directory / "logs",
        read_memory_bytes=resident_bytes,
        terminal_level="error" if quiet else "warning",
    )
    try:
        yield logger
    except CorelaneError:
        raise  # whoever called tells it
    except Exception:
        logger.training.exception("training_failed")
        raise
    finally:
        logger.close()
