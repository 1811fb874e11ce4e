"""Keeps a run resumable: saves between two optimiser steps, regularly, at an interrupt, and when training ends."""

import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

from depthlab.errors import UserError


class Resumable(Checkpoint):
    """Saves `last.ckpt`, from which a run goes on as if it had never stopped.

    The first Ctrl-C (or SIGTERM) lets the optimiser step in progress finish, saves, and stops; a second one stops at
    once, and what was last saved stands. Lightning's own ModelCheckpoint, which can be added under `trainer.callbacks`
    to keep more than the last state, also saves after an epoch that was cut short, and then counts it as a whole one.

    Args:
        directory: where `last.ckpt` goes; in the run directory by default.
        every_n_steps: optimiser steps between two saves.

    Raises:
        UserError: `every_n_steps` is not positive.
    """

    def __init__(self, directory: str = "checkpoints/runs/default/checkpoints", every_n_steps: int = 500) -> None:
        if every_n_steps < 1:
            raise UserError(f"checkpoint.every_n_steps must be positive, got {every_n_steps}")
        self.path = Path(directory) / "last.ckpt"
        self.every_n_steps = every_n_steps
        self.interrupted = False
        self._trains = self._is_between_steps = self._stops = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals for as long as training runs."""
        self._trains = True
        self._process = os.getpid()
        self._previous = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._trains = False
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, and stop, where a step has ended and it is time to."""
        if trainer.fast_dev_run:
            return
        self._is_between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self._finish_step(trainer)
        if not self._is_between_steps:
            return
        # One rank may see the signal a step earlier than another.
        self.interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if self.interrupted:
            trainer.should_stop = True
            if not self._validates(trainer, batch_idx):
                trainer.limit_val_batches = 0  # Lightning would validate once more before it stops
        done = trainer.global_step == trainer.max_steps or (
            trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        )
        if trainer.should_stop or done or trainer.global_step % self.every_n_steps == 0:
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where it has decided that training stops."""
        if trainer.fast_dev_run or trainer.sanity_checking or not self._trains:
            return
        self._finish_step(trainer)
        if trainer.should_stop:
            trainer.save_checkpoint(self.path)

    def _finish_step(self, trainer: Trainer) -> None:
        """Who wants to stop within an optimiser step (a timer, early stopping) waits for its end."""
        self._stops = self._stops or trainer.should_stop
        trainer.should_stop = self._stops and self._is_between_steps

    def _validates(self, trainer: Trainer, batch_idx: int) -> bool:
        """Whether validation, where it goes by epochs, is due after this batch: a resumed run would not make up."""
        epochs = trainer.check_val_every_n_epoch
        return (
            epochs is not None
            and (trainer.current_epoch + 1) % epochs == 0
            and (batch_idx + 1) % trainer.val_check_batch == 0
        )

    def _interrupt(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:
            return  # a worker that makes batches: its work is still wanted
        rank_zero_info("Finishing this step, then saving; interrupt again to stop at once.")
        self.interrupted = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in getattr(self, "_previous", {}).items():
            signal.signal(number, handler)
