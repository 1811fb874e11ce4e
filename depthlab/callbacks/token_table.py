"""Makes one table of what a model did with the words of a treebank: a row for each piece."""

from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer

from depthlab.analysis.tokens import write_tokens
from depthlab.errors import UserError
from depthlab.files import check_own, replacing
from depthlab.metrics import TokenRecords

PARQUET = b"PAR1"
"""What every file in Parquet begins with: only such a file is replaced."""


class TokenTable(Callback):
    """Gathers depths from all ranks beside the words that they are of.

    Columns are those of :func:`depthlab.data.treebanks.alignment.piece_rows`, and `model`, `depth`, `remainder` and,
    where the task computes it, `loss`.

    Args:
        dump: file in Parquet to write the table to, with a row for each piece of a word: sentence, word, piece, labels,
            depth, remainder, ...; it replaces one of before, and `report` says so.
    """

    def __init__(self, dump: Path | None = None) -> None:
        self.dump = dump
        self.table: pd.DataFrame
        """On rank 0 only."""
        self.written = ""
        """The dump, and whether it has replaced one; on rank 0 only."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, where the model is, if the table can be written.

        Raises:
            UserError: the dump is not called .parquet, its folder is missing, or something else lies in its place.
        """
        if self.dump is not None:
            check_own("--dump", self.dump, PARQUET, "table in Parquet")
            if self.dump.suffix != ".parquet":
                raise UserError(f"--dump {self.dump}: the table is in Parquet: name a file that ends in .parquet")
        self._records = TokenRecords().to(pl_module.device)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *rest: Any) -> None:
        self._records.update(**outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put depths beside their words, and write.

        Raises:
            UserError: the dump can't be written.
        """
        measured = self._records.compute()  # from all ranks
        if not trainer.is_global_zero:
            return
        records = pd.DataFrame({name: values.numpy() for name, values in measured.items()})
        table = trainer.datamodule.rows().merge(records, on=["sentence", "position"], validate="one_to_one")
        table.insert(0, "model", pl_module.checkpoint)
        self.table = table
        if self.dump is not None:
            self.written = f"{self.dump}{replacing(self.dump)}"
            write_tokens(table, self.dump)

    def report(self) -> str:
        """What was written, a line each."""
        return f"\ntable  {self.written}\n" if self.written else ""
