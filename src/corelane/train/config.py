"""What the `train` section of a configuration may say. It only declares and checks; the rest of the room acts on it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from corelane.core.config import Section
from corelane.data.stages.cast_text import canonical_text

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

LabelText = Annotated[str, BeforeValidator(lambda label: canonical_text(label) or label)]
"""A label as the data has it: YAML reads 1 and true as a number and a boolean."""

WITHOUT_EFFECT = {
    *("save_interval", "keep_checkpoints", "keep_best_checkpoints", "keep_checkpoint_every", "save_policy"),
    *("mirror_checkpoints", "max_save_failures", "stop_wait_s", "max_retries", "augment.cache"),
    *("hang_timeout_s", "on_crash_loop", "micro_batch_size", "on_nonfinite", "max_skipped_in_a_row", "max_skipped"),
    *("rollback_rate_factor", "max_rollbacks"),
}
"""Settings that change neither a weight nor a line of the history, and so may differ when a run is resumed.

Some may, where the run could not go on else: what is done about a crash loop and about steps that are not finite, and
the size of a batch's pieces, which moves the last bits of a gradient; a resume with another size says so.
"""


class AugmentConfig(Section):
    """How training batches are changed at random; each is off at 0 or null. Drawn anew each epoch, from the seed."""

    flip: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=0.0, description="Images: chance of being flipped left to right"
    )
    shift: int = Field(default=0, ge=0, le=64, description="Images: shifted by up to this many pixels each way")
    cutout: int = Field(default=0, ge=0, le=256, description="Images: side in pixels of a square that is blanked")
    mixup: Positive | None = Field(
        default=None, description="Rows are blended with another; the parameter of the Beta distribution, such as 0.2"
    )
    cutmix: Positive | None = Field(
        default=None, description="Images: a box is taken from another; the parameter of Beta, such as 1"
    )
    noise: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        default=0.0, description="Numbers: deviation of the noise added to the scaled values"
    )
    swap: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0, description="Tables: chance of a value to be replaced by that of another row"
    )

    cache: bool = Field(
        default=False,
        description="Keep the changed batches of each epoch in the cache directory, for other runs that see the same;"
        " every epoch is as large as the training part",
    )

    @property
    def is_off(self) -> bool:
        """Whether nothing is changed."""
        return self.model_copy(update={"cache": False}) == AugmentConfig()


class FineTuneConfig(Section):
    """Where training starts from: a package whose pipeline, network and weights are taken over."""

    package: str = Field(min_length=1, description="Folder of the package: packages/digits/1")
    reset: list[str] = Field(
        default=[],
        description="Parameters that start anew, by name, with * and ?: the output layer's, for other labels",
    )


class TrainConfig(Section):
    """How a network is trained: how long, how fast it learns, when it stops, how often its state is saved."""

    epochs: int = Field(default=10, ge=1, description="Passes over the training part, at most")
    batch_size: int = Field(default=64, ge=1, description="Rows per step; fewer when the training part is smaller")
    learning_rate: Positive = Field(default=1e-3, description="The highest learning rate of the schedule")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows that go through the network at once; a larger batch is added up from pieces. null: as many"
        " as the memory allows",
    )
    optimizer: Literal["adamw", "adam", "sgd", "adagrad"] = Field(
        default="adamw", description="How weights are updated"
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(default=0.9, description="sgd: share of the last update")
    nesterov: bool = Field(default=True, description="sgd: look ahead along the momentum")
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        default=0.01, description="Weight decay; decoupled from the gradient with adamw, added to it otherwise"
    )
    clip_norm: Positive | None = Field(default=1.0, description="Longest gradient; null does not clip")
    clip_value: Positive | None = Field(default=None, description="Largest entry of a gradient; null does not clip")
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="Decay of the moving average of the weights, such as 0.999; null: no average"
    )
    fine_tune: FineTuneConfig | None = Field(default=None, description="Start from a package instead of random weights")
    freeze: list[str] = Field(
        default=[], description="Parameters that keep their values, by name, with * and ?: [blocks.*]"
    )
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0, description="Share of a label that is spread over all labels, in training only"
    )
    class_weights: Literal["balanced"] | Annotated[dict[LabelText, Positive], Field(min_length=1)] | None = Field(
        default=None,
        description="How much rows of a label count in training: inversely to their number, or by label; mean 1",
    )
    scheduler: Literal["constant", "cosine", "one_cycle"] = Field(
        default="cosine", description="How the learning rate goes over the steps"
    )
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.05, description="Share of all steps in which the rate rises: cosine from 0, one_cycle from 1/25"
    )
    early_stopping_patience: int | None = Field(
        default=None, ge=1, description="Epochs without a better validation loss before training stops; null: never"
    )
    save_interval: int = Field(default=1000, ge=1, description="Steps between checkpoints")
    keep_checkpoints: int = Field(
        default=3, ge=2, description="Checkpoints kept; at least two, so that one may be found broken"
    )
    keep_best_checkpoints: int = Field(
        default=0, ge=0, description="Checkpoints kept beside the newest: those with the lowest validation loss"
    )
    keep_checkpoint_every: int | None = Field(
        default=None, ge=1, description="Checkpoints kept beside the newest: those whose step this divides"
    )
    mirror_checkpoints: bool = Field(
        default=False, description="Copy each durable checkpoint to machine.cache_shared too, and verify the copy there"
    )
    save_policy: Literal["wait", "skip"] = Field(
        default="wait", description="When a save is due and the one before still runs: wait for it, or skip this one"
    )
    max_save_failures: int = Field(
        default=3, ge=1, description="Failed saves in a row that end the run; before, it goes on with a warning"
    )
    stop_wait_s: Positive = Field(
        default=60.0, description="Longest wait, when asked to stop, for each of the save that runs and the last one"
    )
    log_interval: int = Field(default=50, ge=1, description="Steps between entries in metrics.jsonl")
    max_retries: int = Field(default=3, ge=0, description="Restarts after a crash without progress in between")
    hang_timeout_s: Positive | None = Field(
        default=300.0,
        description="Seconds without a step after which the trainer is taken for hung and started again; at least ten"
        " times the longest step so far; and the longest wait for the last save. null: never",
    )
    on_crash_loop: Literal["stop", "quarantine"] = Field(
        default="stop",
        description="When all retries end at the same step: stop and name its rows, or go on without them",
    )
    on_nonfinite: Literal["skip", "rollback", "stop"] = Field(
        default="skip",
        description="When a loss or gradient is NaN or infinite: leave the step out, go back to the last checkpoint"
        " with a lower rate, or stop",
    )
    max_skipped_in_a_row: int = Field(
        default=5, ge=1, description="skip: more such steps one after another end the run"
    )
    max_skipped: int = Field(default=100, ge=1, description="skip: more such steps in all end the run")
    rollback_rate_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.5, description="rollback: what is left of the learning rate each time"
    )
    max_rollbacks: int = Field(default=3, ge=1, description="rollback: one more ends the run")
    augment: AugmentConfig = Field(default=AugmentConfig(), description="Random changes of training batches")
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        default="auto", description="Layout of images: auto takes channels_last where there is a 2-d convolution"
    )

    @property
    def digest(self) -> str:
        """SHA-256 of everything that changes the weights or the history; a resumed run must have the same."""
        values = self.model_dump(mode="json", exclude={name for name in WITHOUT_EFFECT if "." not in name})
        del values["augment"]["cache"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
