"""The training loop. Everything that a step does can be pointed at in `Trainer._steps`; the rest is what happens now
and then: an entry in the history, an evaluation, a checkpoint, a stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from corelane.core.clock import Clock
from corelane.core.errors import ConfigError, DataError, InterruptedRunError, NonFiniteLossError
from corelane.data.kept import Keeper, KeptData
from corelane.data.prepared import PreparedData
from corelane.data.processor import CPUDataProcessor
from corelane.observe.log import SystemLogger
from corelane.train import randomness
from corelane.train.augment import Augmenting
from corelane.train.batches import TensorBatch, TensorBatches
from corelane.train.config import TrainConfig
from corelane.train.evaluate import evaluate, rows_at_once
from corelane.train.heartbeat import NO_HEART, Heart, phase_beats
from corelane.train.learner import Learner
from corelane.train.losses import loss_for
from corelane.train.metrics import Evaluation
from corelane.train.micro_batch import PieceSize
from corelane.train.nonfinite import NonFiniteSteps
from corelane.train.plan import Plan
from corelane.train.progress import Extent, TrainingProgress
from corelane.train.record import EpochRecord, Observer, StepRecord
from corelane.train.result import TrainResult
from corelane.train.state import TrainingStateManager, saved_steps
from corelane.train.suspects import HealthyRows
from corelane.train.timing import StopWatch


class Trainer:
    """Trains `module` on the training part of `data`, and keeps what the validation part calls best.

    Runs in the calling thread, whose torch settings the caller has made (`torch_thread.py`). `should_stop` is asked
    after every step; at a yes the state is saved and `InterruptedRunError` raised. `keeper` keeps in memory what is
    read again, `augment` changes the batches of training, `observers` are told of every step. `rows` gives the order of
    the epochs, `heart` tells whoever watches this process where it is.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        module: torch.nn.Module,
        data: PreparedData,
        processor: CPUDataProcessor,
        state: TrainingStateManager,
        logger: SystemLogger,
        plan: Plan,
        seed: int,
        progress: TrainingProgress,
        clock: Clock,
        should_stop: Callable[[], bool],
        keeper: Keeper,
        augment: Augmenting,
        rows: HealthyRows,
        heart: Heart = NO_HEART,
        observers: Sequence[Observer] = (),
        title: str = "training",
    ) -> None:
        _check(config, data)
        self._config = config
        self._data = data
        self._state = state
        self._logger = logger
        self._seed = seed
        self._progress = progress
        self._should_stop = should_stop
        self._title = title
        self._kept = KeptData(data, keeper)
        self._batches = TensorBatches(processor, channels_last=plan.chosen.memory_format == "channels_last")
        self._batch_size = min(config.batch_size, data.train.num_rows)
        self._micro_batch_size = min(config.micro_batch_size or self._batch_size, self._batch_size)
        self._steps_per_epoch = data.train.num_rows // self._batch_size
        self._augment = augment
        self._rows = rows
        self._heart = heart
        self._observers = (progress.update, *observers)
        self._watch = StopWatch(clock)
        self._learner = Learner(
            config,
            module,
            loss_for(data.pipeline.target, config),
            candidate=plan.chosen,
            total_steps=config.epochs * self._steps_per_epoch,
            micro_batch_size=self._micro_batch_size,
            watch=self._watch,
            after_piece=lambda: heart.enter("train"),
        )
        state.parts["average"] = self._learner.average
        self._nonfinite = NonFiniteSteps(config)
        state.parts["micro_batch"] = PieceSize(self._micro_batch_size, logger, state.notes)
        state.parts["nonfinite"] = self._nonfinite

    def train(self, resume: bool = False) -> TrainResult:
        """Train to the end, from the start or from the newest checkpoint, and return what was reached.

        Raises `NonFiniteLossError`, `DiskFullError`, `InterruptedRunError`, `StateError` when the checkpoint is of
        another run, `ConfigError` when there is a checkpoint and `resume` is false.
        """
        self._begin(resume)
        try:
            while not self._state.counters.is_finished:
                self._epoch()
            self._heart.enter("save")  # a slow disk is no hang
            self._state.settle(self._config.hang_timeout_s)
        finally:
            self._augment.close()
            self._progress.close()
        return self._result()

    def _epoch(self) -> None:
        """The steps that are left of the epoch; a way back where something is not finite, if the policy has one."""
        try:
            self._steps()
        except NonFiniteLossError:
            if not (self._nonfinite.roll_back() and self._roll_back()):
                raise

    def _steps(self) -> None:
        """The steps that are left of the present epoch, and its end."""
        config, at = self._config, self._state.counters
        watch, learner, heart = self._watch, self._learner, self._heart
        for batch in self._epoch_batches():
            watch.lap("data")
            rate = learner.schedule.learning_rate
            outcome = learner.step(batch)
            value, norm = outcome.loss.item(), outcome.gradient_norm.item()  # on a CPU nothing waits for them: 0.1 us
            if outcome.was_taken:
                at.loss_sum += value
                at.epoch_loss_sum += value
                self._nonfinite.in_a_row = 0
            else:
                self._leave_out(value, norm)

            at.step += 1
            at.batch += 1
            self._last = StepRecord(at.step, at.epoch, self._batch_size, value, rate, norm, watch.now)
            for observe in self._observers:
                observe(self._last)
            if at.step % config.log_interval == 0:
                self._log()
            if at.batch == self._steps_per_epoch:
                self._end_epoch()
            if at.is_finished or self._state.is_due():
                self._save()
            heart.beat(at.step, at.epoch, at.batch)
            if not at.is_finished and self._should_stop():
                self._stop()
            watch.lap("other")

    def _epoch_batches(self) -> Iterator[TensorBatch]:
        at, part = self._state.counters, self._kept.train()
        start = at.batch * self._batch_size
        change = self._augment.epoch(at.epoch, start)
        return self._batches.of(
            part, self._rows.order(at.epoch), self._batch_size, start=start, drop_last=True, change=change
        )

    def _begin(self, resume: bool) -> None:
        state, learner = self._state, self._learner
        if not resume and saved_steps(state.checkpoint_dir):
            raise ConfigError(
                f"{state.checkpoint_dir} must hold no checkpoints when a run starts, got some; resume that run"
            )
        if not (resume and state.resume(learner.module, learner.optimizer, learner.schedule)):
            randomness.seed_generators(self._seed)
            state.history.reset()
        at = state.counters
        total_steps = self._config.epochs * self._steps_per_epoch
        learner.start()
        learner.schedule.lower(self._nonfinite.rate_factor)
        self._heart.tell_micro_batch(self._micro_batch_size)
        self._heart.beat(at.step, at.epoch, at.batch)
        self._heart.enter("train")
        self._watch.start(at.seconds)
        self._mark = (at.step, self._watch.now)
        losses = [(entry["step"], entry["loss"]) for entry in state.history.entries("step")]
        extent = Extent(self._title, total_steps, self._config.epochs, self._batch_size, at.step, losses)
        self._progress.start(extent, self._watch.now)
        if self._config.on_nonfinite == "rollback" and state.durable_step is None:
            self._save()  # the first steps too may have to be gone back from
        self._logger.training.info(
            "training_started", step=at.step, total_steps=total_steps, batch_size=self._batch_size
        )

    def _log(self) -> None:
        """An entry for the steps since the last one: what a resumed run repeats in the history, the rate in the log."""
        at, watch = self._state.counters, self._watch
        num_taken, self._nonfinite.since_log = self._config.log_interval - self._nonfinite.since_log, 0
        if num_taken == 0:
            return
        loss, at.loss_sum = at.loss_sum / num_taken, 0.0
        values: dict[str, float] = {"learning_rate": self._last.learning_rate}
        if math.isfinite(self._last.gradient_norm):
            values["gradient_norm"] = self._last.gradient_norm
        self._state.history.add("step", {"step": at.step, "epoch": at.epoch, "loss": loss, **values})
        step, time = self._mark
        self._mark = (at.step, watch.now)
        num_examples = (at.step - step) * self._batch_size
        timing = {"examples_per_s": num_examples / max(watch.now - time, 1e-9)}
        self._logger.log_training_step(
            at.step, loss, {**values, "epoch": at.epoch, "num_examples": num_examples}, timing
        )

    def _end_epoch(self) -> None:
        """Evaluate, keep the weights if they are the best, decide whether the run is over."""
        at, config = self._state.counters, self._config
        self._watch.lap("other")
        num_taken, self._nonfinite.in_epoch = self._steps_per_epoch - self._nonfinite.in_epoch, 0
        entry = {"train_loss": at.epoch_loss_sum / num_taken} if num_taken else {}
        if self._data.validation.num_rows:
            with self._learner.averaged():
                evaluation = self._validate()
                named = evaluation.named("validation")
                entry |= {name: value for name, value in named.items() if math.isfinite(value)}
                self._rank(evaluation.loss)
        self._state.metrics = entry
        self._state.history.add("epoch", {"epoch": at.epoch, "step": at.step, **entry})
        self._logger.training.info("epoch_finished", epoch=at.epoch, step=at.step, **entry)
        self._logger.metrics_collector.record("training", entry)
        self._progress.epoch(EpochRecord(at.epoch, config.epochs, at.step, entry, at.best_step == at.step))
        at.epoch, at.batch, at.epoch_loss_sum = at.epoch + 1, 0, 0.0
        at.stopped_early = at.stale_epochs >= (config.early_stopping_patience or math.inf)
        at.is_finished = at.stopped_early or at.epoch == config.epochs
        if at.is_finished and not self._data.validation.num_rows:
            self._keep_average()
        self._heart.enter("train")
        self._watch.lap("evaluate")

    def _keep_average(self) -> None:
        """Without a validation part the last weights are the result; where they are averaged, the average is."""
        if self._config.ema_decay is not None:
            with self._learner.averaged():
                self._state.keep_best(self._learner.module)

    def _validate(self) -> Evaluation:
        rows = self._batches.of_validation(self._kept, rows_at_once(self._config))
        batches = phase_beats(self._heart, "evaluate", rows)
        return evaluate(self._learner.module, batches, self._data.pipeline)

    def _rank(self, loss: float) -> None:
        at = self._state.counters
        if not math.isfinite(loss):
            self._pass_over(loss)
        if loss < at.best_metric:
            at.best_metric, at.best_step, at.stale_epochs = loss, at.step, 0
            self._state.keep_best(self._learner.module)
        else:
            at.stale_epochs += 1

    def _pass_over(self, loss: float) -> None:
        """The epoch's validation loss is not finite: the end or a way back where steps have one, else a bad epoch."""
        at = self._state.counters
        if self._config.on_nonfinite != "skip":
            raise self._not_finite("validation loss", loss)
        self._logger.training.warning(
            "validation_not_finite", epoch=at.epoch, step=at.step, loss=str(loss), action="never taken for the best"
        )

    def _save(self) -> None:
        watch, learner, state = self._watch, self._learner, self._state
        watch.lap("other")
        state.counters.seconds = dict(watch.seconds)
        self._heart.enter("save")
        try:
            state.save_checkpoint(learner.module, learner.optimizer, learner.schedule, state.metrics)
        except NonFiniteLossError as error:
            raise self._not_finite("weights", math.nan) from error
        self._heart.enter("train")
        watch.lap("save")

    def _stop(self) -> None:
        state, step = self._state, self._state.counters.step
        self._wait_for_save(self._config.stop_wait_s)
        if state.durable_step != step:
            self._save()
            self._heart.enter("save")
            state.settle(self._config.stop_wait_s)
        raise InterruptedRunError(
            f"training must run to its end, got a request to stop; its state is saved at step {step}, "
            "run the same command again with --resume"
        )

    def _wait_for_save(self, timeout_s: float | None = None) -> None:
        """Until the save that runs has ended, well or not: what failed so far is tolerated here."""
        self._heart.enter("save")
        self._state.wait(timeout_s)

    def _leave_out(self, loss: float, norm: float) -> None:
        """The step just tried was not finite and changed nothing: go on without it, if the policy lets us."""
        at = self._state.counters
        what, value = ("gradient norm", norm) if math.isfinite(loss) else ("loss", loss)
        if not self._nonfinite.skip():
            raise self._not_finite(what, value)
        self._state.history.add("skipped", {"step": at.step + 1, "epoch": at.epoch, "batch": at.batch})
        self._logger.training.warning(
            "step_skipped",
            step=at.step + 1,
            reason=f"the {what} was {value}",
            positions=self._positions(),
            num_skipped=self._nonfinite.skipped,
        )

    def _roll_back(self) -> bool:
        """Go back to the newest checkpoint, with a lower rate from there on; False where none is whole."""
        state, learner, reached = self._state, self._learner, self._state.counters.step
        decided = self._nonfinite.state_dict()
        self._wait_for_save()
        state.notes.clear()  # the checkpoint has them
        if not state.resume(learner.module, learner.optimizer, learner.schedule):
            return False
        self._nonfinite.load_state_dict({**decided, "in_a_row": 0, "since_log": 0, "in_epoch": 0})
        learner.schedule.lower(self._nonfinite.rate_factor)
        at = state.counters
        self._mark = (at.step, self._watch.now)
        facts = {"step": at.step, "epoch": at.epoch, "from_step": reached, "rate_factor": self._nonfinite.rate_factor}
        state.history.add("rollback", facts)
        self._logger.training.warning("rolled_back", **facts, num_rollbacks=self._nonfinite.rollbacks)
        self._heart.enter("train")
        return True

    def _positions(self) -> list[int]:
        """The rows of the present batch, as positions in their source."""
        at = self._state.counters
        rows = self._rows.batch(at.epoch, at.batch, self._batch_size)
        positions: list[int] = self._data.train.positions[rows].tolist()
        return positions

    def _not_finite(self, what: str, value: float) -> NonFiniteLossError:
        at = self._state.counters
        saved = "none" if self._state.durable_step is None else f"that of step {self._state.durable_step}"
        return NonFiniteLossError(
            f"the {what} at step {at.step} must be finite, got {value} at learning rate "
            f"{self._learner.schedule.learning_rate:.3g}; lower train.learning_rate (try a tenth) or train.clip_norm, "
            f"or look for extreme values in the data{self._nonfinite.told}. The last good checkpoint: {saved}"
        )

    def _result(self) -> TrainResult:
        at, data = self._state.counters, self._data
        self._heart.enter("finish")
        self._state.load_best().load_into(self._learner.module)
        validation = None
        if data.validation.num_rows:
            validation = self._validate()
        self._heart.enter("finish")  # the batches were signs of an evaluation, which is over
        self._watch.lap("evaluate")
        return TrainResult(
            directory=self._state.checkpoint_dir.parent,
            num_steps=at.step,
            num_epochs=at.epoch,
            best_step=at.best_step or at.step,
            stopped_early=at.stopped_early,
            validation=validation,
            test=None,
            examples_per_s=at.step * self._batch_size / max(self._watch.total_s, 1e-9),
            seconds=dict(self._watch.seconds),
            notes=tuple(self._state.notes),
        )


def _check(config: TrainConfig, data: PreparedData) -> None:
    if data.train.num_rows == 0:
        raise DataError("the training part must have rows, got none; lower data.split.test or data.split.validation")
    if config.early_stopping_patience is not None and data.validation.num_rows == 0:
        raise ConfigError(
            "train.early_stopping_patience must be null without validation rows, "
            f"got {config.early_stopping_patience}; set data.split.validation"
        )
