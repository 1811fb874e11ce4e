"""Writes what a model predicts for the test splits, as the task's data module wants it."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from depthlab.files import replacing, writing
from depthlab.metrics.glue import Predictions

PARTIAL = "# partial"
"""How the first line of a file begins that has not all of a split: `trainer.limit_predict_batches` makes such."""


class PredictionWriter(Callback):
    """Writes a file of each test split, in the data's own form, every example in order; a partial one says so.

    Args:
        folder: where they go; there they replace those of before, and `report` says so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[str] = []
        """The files, and which of them have replaced one; on rank 0 only."""
        self._splits: list[Predictions] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._splits = [Predictions().to(pl_module.device) for _ in trainer.datamodule.predict_splits]

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, loader: int = 0
    ) -> None:
        self._splits[loader].update(outputs["predictions"], outputs["index"])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write.

        Raises:
            UserError: the folder can't be written.
        """
        for split, metric in zip(trainer.datamodule.predict_splits, self._splits, strict=True):
            index, predictions = metric.compute()  # from all ranks
            if trainer.is_global_zero:
                self._write(trainer.datamodule, split, index.tolist(), predictions.tolist())

    def report(self) -> str:
        """What was written, a line each."""
        return "".join(f"predictions  {file}\n" for file in self.written)

    def _write(self, data: Any, split: str, index: list[int], predictions: list[Any]) -> None:
        file = self.folder / data.prediction_file(split)
        lines, examples = data.predicted_lines(split, index, predictions), data.summary[split]
        if (predicted := data.count(index)) < examples:
            lines.insert(0, f"{PARTIAL}: {predicted} of {examples} examples")
        self.written.append(f"{file}{replacing(file)}")
        with writing("predictions to", file) as unfinished:
            unfinished.write_text("\n".join(lines) + "\n")
