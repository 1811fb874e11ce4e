"""Says how far a run is: for `depthlab status`, and in plain lines where nobody has a progress bar."""

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from depthlab.render.progress import line
from depthlab.run.progress import EVERY, ProgressFile

LINE_EVERY = 300.0
"""Seconds between two lines, at most; every validation has one, too."""
TOLD = ("train/", "val/", "throughput/")
"""How the tags begin of what is told."""


class Reporter(Callback):
    """Keeps the run's progress file, and prints lines: step, time left, losses, depth, throughput.

    The time left is what this process took for a step so far, validation and saving included, or less where the trainer
    has a `max_time`. Values are read from the device at the trainer's pace, but not more often than is written.

    Args:
        file: what to keep.
        prints: whether to print lines.
    """

    def __init__(self, file: ProgressFile, prints: bool) -> None:
        self.file = file
        self.prints = prints and file.writes

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The checkpoint to go on from is loaded, and the settings fit. Begin to count; perhaps no step is left."""
        self.file.begin()
        self._began, self._first = time.monotonic(), trainer.global_step
        self._read = self._printed = self._began

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how much there is to do."""
        steps = trainer.estimated_stepping_batches
        self.file.say("waiting for a batch", step=self._first, steps=None if math.isinf(steps) else int(steps))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.file.say("training")
        if time.monotonic() - self._read > EVERY:
            self._note(trainer)
        if time.monotonic() - self._printed > LINE_EVERY:
            self._print(trainer)

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        self.file.say("waiting for a batch", step=trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.file.say("validating")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.file.say("testing")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was measured."""
        if not trainer.sanity_checking:
            self._note(trainer)
            self.file.say(validated=self.file.progress.step)
            if trainer.state.fn == "fit":
                self._print(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.file.say("saving a checkpoint")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.file.say("exporting the model")

    def _note(self, trainer: Trainer) -> None:
        """Read the last values, and see what is left to do."""
        self._read = time.monotonic()
        measured = {tag: float(v) for tag, v in trainer.callback_metrics.items() if tag.startswith(TOLD)}
        measured |= {"lr": trainer.optimizers[0].param_groups[0]["lr"]} if trainer.optimizers else {}
        self.file.say(measured=measured, seconds_left=self._seconds_left(trainer))

    def _seconds_left(self, trainer: Trainer) -> float | None:
        progress, made = self.file.progress, self.file.progress.step - self._first
        left = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, Timer)]
        if progress.steps is not None and made > 0:
            left.append((progress.steps - progress.step) * (time.monotonic() - self._began) / made)
        return min((seconds for seconds in left if seconds is not None), default=None)

    def _print(self, trainer: Trainer) -> None:
        if self.prints:
            self._printed = time.monotonic()
            print(line(self.file.progress), flush=True)
