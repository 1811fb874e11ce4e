"""Keeps the best state of a run, and what every validation of it has measured."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from depthlab.run.directory import best_epoch


class BestCheckpoint(Checkpoint):
    """Saves the state of the highest score, the first of equals, after each validation of a fit at its own depth.

    What is validated while depth is held, or has not yet its price, is not what the run is to end with. The last state
    is saved then, too: what was measured must not be lost when the run goes on from there.

    Args:
        path: where the best state goes.
        last: where the last one does.
        monitor: the score's tag.
    """

    def __init__(self, path: Path, last: Path, monitor: str) -> None:
        self.path = path
        self.last = last
        self.monitor = monitor
        self._fits = False
        self.epochs: list[dict[str, float]] = []
        """What each validation logged, and after how many epochs and steps."""

    @property
    def best(self) -> dict[str, float] | None:
        """The best of `epochs`."""
        return best_epoch(self.epochs, self.monitor) if self.epochs else None

    def validated(self, step: int) -> bool:
        """Whether the last validation was after this many steps."""
        return bool(self.epochs) and self.epochs[-1]["step"] == step

    def results(self) -> dict[str, Any]:
        """For `results.json`: what the best state has measured, when that was, and all epochs."""
        if self.best is None:
            return {"epochs": []}
        measured = {tag: value for tag, value in self.best.items() if tag not in ("epoch", "step")}
        return {"steps": self.best["step"], **measured, "best_epoch": self.best["epoch"], "epochs": self.epochs}

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on validations count, that after the fit as well; those of `depthlab validate` do not."""
        self._fits = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what was logged, and save if it was never better."""
        values = {tag: float(value) for tag, value in trainer.callback_metrics.items() if tag.startswith("val/")}
        if not self._fits or trainer.sanity_checking or trainer.fast_dev_run or self.monitor not in values:
            return
        if not pl_module.depth_has_its_price:
            trainer.save_checkpoint(self.last)
            return
        step = trainer.global_step
        epoch = round(step * trainer.accumulate_grad_batches / trainer.num_training_batches, 3)
        epoch = int(epoch) if epoch == int(epoch) else epoch  # a fraction where validation comes in mid-epoch
        self.epochs = [earlier for earlier in self.epochs if earlier["step"] < step]
        self.epochs.append({"epoch": epoch, "step": step, **values})
        for path in (self.path, self.last) if self.best["step"] == step else (self.last,):
            trainer.save_checkpoint(path)
