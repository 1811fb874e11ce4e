"""Lightning's Trainer as experiments use it."""

from typing import Any

from lightning.pytorch import LightningDataModule, Trainer

from depthlab.data.steps import StepDataModule
from depthlab.errors import UserError


class ExperimentTrainer(Trainer):
    """Lightning's Trainer, in optimiser steps; and a step ahead of it."""

    def count_steps(self, datamodule: StepDataModule) -> None:
        """Accumulate what the data asks for, and validate by optimiser steps, not by what a device does at a time.

        So neither setting knows how many devices there are. `accumulate_grad_batches` above 1 is taken as it is.
        """
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"trainer.{name} is {value}; it must be 1 or more")
        if self.accumulate_grad_batches == 1:
            self.accumulate_grad_batches = datamodule.pieces(self.world_size)
        if isinstance(self.val_check_interval, int):
            self.val_check_interval *= self.accumulate_grad_batches

    def prepare(self, model: Any, datamodule: LightningDataModule) -> None:
        """Prepare an experiment's data ahead of time, so that fit finds it in the cache."""
        datamodule.prepare_data()
