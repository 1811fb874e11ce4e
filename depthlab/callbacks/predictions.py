"""Writes what a model predicts for the test splits, as the task's data module wants it."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from depthlab.files import writing
from depthlab.metrics.glue import Predictions


class PredictionWriter(Callback):
    """Writes one TSV of each test split: a header, and `index<TAB>prediction` of every example in order.

    Args:
        folder: where they go; there they replace those of before.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        """What was written; on rank 0 only."""
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
        return "".join(f"predictions  {file}\n" for file in self.files)

    def _write(self, data: Any, split: str, index: list[int], predictions: list[Any]) -> None:
        file = self.folder / data.prediction_file(split)
        rows = zip(index, map(data.as_written, predictions), strict=True)
        lines = ["index\tprediction", *(f"{number}\t{prediction}" for number, prediction in rows)]
        with writing("predictions to", file) as unfinished:
            unfinished.write_text("\n".join(lines) + "\n")
        self.files.append(file)
