"""Holds the data against the model before anything runs."""

from lightning.pytorch import Callback, LightningModule, Trainer


class DataCheck(Callback):
    """Asks a task of ours whether it can read what its data module has (`check_data`)."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask.

        Raises:
            UserError: vocabulary or length of the data do not fit the model.
        """
        pl_module.check_data(len(trainer.datamodule.tokenizer), trainer.datamodule.max_length)
