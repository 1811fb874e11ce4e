"""How fast this machine trains an experiment: a few of its steps."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from depthlab.analysis.costs import training_flops
from depthlab.data.steps import StepDataModule
from depthlab.tasks import Task

WARM_UP, MEASURED = 2, 5
"""Steps."""


class Pace(Callback):
    """Counts operations and seconds of the steps after the first ones."""

    def __init__(self, predicted: float) -> None:
        self.predicted = predicted
        self.flops = self.seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        depths = outputs.get("depths", batch["attention_mask"]).cpu()  # waits for the device
        seconds = time.perf_counter() - self._started
        if batch_idx >= WARM_UP:
            self.seconds += seconds
            self.flops += sum(training_flops(pl_module.model, row[None], self.predicted) for row in depths)


def measure(settings: dict[str, Any], task: Task, data: StepDataModule) -> float:
    """Floating point operations a second that one device of this machine keeps up, at what it does at a time."""
    data.batch_size = min(data.batch_size, data.device_batch_size or data.batch_size)
    data.num_workers, data.device_batch_size = 0, None
    pace = Pace(getattr(data, "mask_ratio", 0) * data.max_length)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(
        max_steps=WARM_UP + MEASURED,
        devices=1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        callbacks=[pace],
        **{name: settings["trainer"][name] for name in ("accelerator", "precision", "gradient_clip_val")},
        **quiet,
    )
    trainer.fit(task, data)
    return pace.flops / pace.seconds
