"""Lightning's Trainer as experiments have it: in optimiser steps, a step ahead, and at many settings of a dial."""

import inspect
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from depthlab.data.kept import KeptValidation
from depthlab.data.steps import StepDataModule
from depthlab.errors import UserError
from depthlab.models.dial import turn_model

# `typing` gives the first of equal types that anybody has made. Where that was some library's `Union[float, int]`, the
# Trainer's limits have it, too, and `--trainer.limit_train_batches 1`, of one batch, would be 1.0, of all.
_types = inspect.unwrap(Trainer.__init__).__annotations__
_types.update({name: int | float | None for name, kind in _types.items() if kind == int | float | None})


class ExperimentTrainer(Trainer):
    """Lightning's Trainer, and what else there is to do with an experiment: its methods are commands."""

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

    def refuse_no_batches(self, command: str) -> None:
        """Refuse to validate, test or predict nothing.

        Raises:
            UserError: no batch is to be taken.
        """
        name = f"limit_{'val' if command == 'validate' else command}_batches"
        if not getattr(self, name):
            raise UserError(f"trainer.{name} 0 leaves nothing to {command}: leave it out")

    def prepare(self, model: Any, datamodule: LightningDataModule) -> None:
        """Prepare an experiment's data ahead of time, so that fit finds it in the cache."""
        datamodule.prepare_data()

    def dial(
        self, model: LightningModule, datamodule: LightningDataModule, dial: str, max_depth: int | None = None
    ) -> list[dict[str, float]]:
        """Measure one checkpoint at many settings of its halting rule, on the validation split, which is read once.

        The model is that of `model.checkpoint`, by the rule of `model.depth.halting`, any that needs no training, or
        the checkpoint's own.

        Args:
            model: The task.
            datamodule: Its data.
            dial: Values of the one number of the rule that is turned after training: 0.1,0.2,0.3. For act it is a shift
                of the halting logit, for fixed the depth.
            max_depth: The cap, beyond that of training, too, where iterations share a layer.

        Returns:
            Of each value, under "dial", what validation logs.

        Raises:
            UserError: A value is no number, or out of its range; there is nothing to validate.
        """
        try:
            values = [*dict.fromkeys(float(value) for value in dial.split(","))]
        except ValueError:
            raise UserError(f"--dial {dial}: numbers with commas between them, such as 0.1,0.2") from None
        self.refuse_no_batches("validate")
        data, found = KeptValidation(datamodule), []
        for value in (*values, values[0]):  # a bad one is found before anything is measured
            turn_model(model.model, value, max_depth)
        whole, self.limit_val_batches = self.limit_val_batches, 1
        self.validate(model, datamodule=data, verbose=False)  # the first forward pass of a process takes longer
        self.limit_val_batches = whole
        for value in values:
            turn_model(model.model, value)
            self.validate(model, datamodule=data, verbose=False)
            measured = {tag: float(number) for tag, number in self.callback_metrics.items() if tag.startswith("val/")}
            found.append({"dial": value, **measured})
        return found
