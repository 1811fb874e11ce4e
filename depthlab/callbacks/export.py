"""Exports a run as a Hugging Face directory when its training is done."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from depthlab.callbacks.resumable import Resumable
from depthlab.models.export import Exported, WriteCard, write_export
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.directory import RunDirectory


class ExportAtEnd(Callback):
    """Writes `<run_dir>/model` from the run's best or last checkpoint at the end of a fit that was not interrupted.

    Args:
        run_dir: directory of the run. A run that goes on replaces what it exported before.
        write_card: puts the model card beside the model.
        best: the checkpoint to take in place of the last, where it exists.
    """

    def __init__(self, run_dir: Path, write_card: WriteCard, best: Path | None = None) -> None:
        self.run_dir = run_dir
        self.write_card = write_card
        self.best = best
        self.directory = RunDirectory(run_dir).model
        self.exported: Exported | None = None
        """None until there is one, and on other ranks."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checkpoints = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Resumable)]
        for saved in checkpoints:
            if trainer.is_global_zero and not saved.interrupted and saved.path.exists():
                path = self.best if self.best is not None and self.best.exists() else saved.path
                self.exported = write_export(whole_checkpoint(path), self.directory, self.write_card)

    def update_card(self) -> None:
        """Fill the model card from the results, which come after the fit."""
        if self.exported is not None:
            self.write_card(self.run_dir, self.exported)
