"""Makes one table of what a model did with the words of a treebank: a row for each piece."""

from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from depthlab.analysis.labels import depth_by_label, relations
from depthlab.analysis.tokens import write_tokens
from depthlab.errors import UserError
from depthlab.metrics import TokenRecords
from depthlab.render.document import Document
from depthlab.reports.labels import label_table

PARQUET = b"PAR1"
"""What every file in Parquet begins with: only such a file is replaced."""


class TokenTable(Callback):
    """Gathers depths from all ranks beside the words that they are of.

    Columns are those of :func:`depthlab.data.treebanks.alignment.piece_rows`, and `model`, `depth`, `remainder` and,
    where the task computes it, `loss`.

    Args:
        dump: a file in Parquet to write the table to; it replaces one of before.
    """

    def __init__(self, dump: Path | None) -> None:
        self.dump = dump
        self.table: pd.DataFrame
        """On rank 0 only."""
        self._summary: dict[str, int]

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, where the model is, if the table can be written.

        Raises:
            UserError: the dump's folder is missing, or something else lies in its place.
        """
        if self.dump is not None:
            if not self.dump.parent.is_dir():
                raise UserError(f"--dump {self.dump}: there is no folder {self.dump.parent}")
            if self.dump.exists() and not _is_parquet(self.dump):
                raise UserError(f"--dump {self.dump} exists and is no table in Parquet: name another file")
        self._records = TokenRecords().to(pl_module.device)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: dict[str, Tensor],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Gather."""
        self._records.update(**outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put depths beside their words, and write.

        Raises:
            UserError: the dump can't be written.
        """
        measured = self._records.compute()  # from all ranks
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule
        records = pd.DataFrame({name: values.numpy() for name, values in measured.items()})
        table = data.rows().merge(records, on=["sentence", "position"], validate="one_to_one")
        table.insert(0, "model", pl_module.checkpoint)
        self.table, self._summary = table, data.summary
        if self.dump is not None:
            write_tokens(table, self.dump)

    def report(self) -> str:
        """Depths by relation and by part of speech, what they are of, and where the table lies."""
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self._summary.items())
        title = f"{self.table['model'].iloc[0]}: mean depth {self.table['depth'].mean():.2f}"
        labels = {"relation": relations(self.table), "part of speech": self.table["upos"]}
        tables = (label_table(depth_by_label(self.table, values), name) for name, values in labels.items())
        blocks = [f"{counts}.", *tables]
        written = "" if self.dump is None else f"\ntable  {self.dump}\n"
        return Document(title, blocks).to_markdown() + written


def _is_parquet(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(PARQUET)) == PARQUET
    except OSError:
        return False
