"""Lightning's `Trainer` with the same loader as `torch_dataloader.py`, everything that is not training turned off."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_THREADS, Case, Work
from benchmarks.training.data import examples

CASES = ("mlp-b64", "cnn-b64")


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    import lightning
    import torch
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.training.torch_nets import build

    class Module(lightning.LightningModule):
        """As Lightning's introduction writes it."""

        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss_of = build(case), nn.CrossEntropyLoss()
            self.times_s: list[float] = []

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            inputs, targets = batch
            loss: Tensor = self.loss_of(self.net(inputs), targets)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)

        def on_train_epoch_start(self) -> None:
            self._start = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            self.times_s.append(time.perf_counter() - self._start)

    torch.set_num_threads(NUM_THREADS)
    tensors = (torch.from_numpy(array) for array in examples(case, work.data))
    loader: Any = DataLoader(TensorDataset(*tensors), case.batch_size, shuffle=True, drop_last=True)
    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=work.num_epochs,
        gradient_clip_val=CLIP_NORM,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return [len(loader) * case.batch_size / seconds for seconds in module.times_s]
