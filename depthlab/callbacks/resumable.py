"""Keeps a run resumable: an interrupt ends it between two optimiser steps, with everything saved."""

import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info


class Resumable(Callback):
    """Saves `last.ckpt` when training ends, be it done or interrupted.

    The first Ctrl-C (or SIGTERM) lets the optimiser step in progress finish, saves, and stops; a second one stops at
    once, and what was last saved stands. Saving happens between two steps, so that a resumed run sees the next samples.

    Args:
        checkpoint_dir: where `last.ckpt` goes.
    """

    def __init__(self, checkpoint_dir: str | Path) -> None:
        self.checkpoint = Path(checkpoint_dir) / "last.ckpt"
        self.interrupted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals for as long as training runs."""
        self._previous = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop where a step has ended and it is time to."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        # One rank may see the signal a step earlier than another.
        self.interrupted = trainer.strategy.reduce_boolean_decision(self.interrupted, all=False)
        if self.interrupted:
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning would validate once more before it stops
        if self.interrupted or trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.checkpoint)

    def _interrupt(self, number: int, frame: Any) -> None:
        rank_zero_info("Finishing this step, then saving; interrupt again to stop at once.")
        self.interrupted = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in getattr(self, "_previous", {}).items():
            signal.signal(number, handler)
