"""Validation batches that are made once, for who goes over them many times."""

from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor


class Batches(list[dict[str, Tensor]]):
    """Batches of a loader. A plain list would be several loaders to Lightning."""


class KeptValidation(LightningDataModule):
    """Another data module, of which nothing is read again."""

    def __init__(self, data: LightningDataModule) -> None:
        super().__init__()
        self._data = data
        self._kept: list[Batches] | None = None

    def __getattr__(self, name: str) -> Any:
        """What else is asked of it."""
        return getattr(self._data, name)

    def prepare_data(self) -> None:
        if self._kept is None:
            self._data.prepare_data()

    def setup(self, stage: str) -> None:
        if self._kept is None:
            self._data.trainer = self.trainer
            self._data.setup(stage)

    def val_dataloader(self) -> list[Batches]:
        """Every batch of it, [] of a rank's."""
        if self._kept is None:
            loaders = self._data.val_dataloader()
            self._kept = [Batches(loader) for loader in (loaders if isinstance(loaders, list) else [loaders])]
        return self._kept
