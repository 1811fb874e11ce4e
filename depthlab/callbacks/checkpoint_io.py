"""How a run's checkpoints get onto the disk."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from depthlab.files import UNFINISHED, beside, writing
from depthlab.run.checkpoints import damage, seal
from depthlab.run.directory import run_of


class WholeCheckpoints(TorchCheckpointIO):
    """Leaves the old checkpoint or the new one, whole, whatever happens: a kill, a full disk, a power cut.

    Lightning's own writes to `$TMPDIR` and, where that is on another file system, copies from there over the old one.
    What this writes lies beside its place, is on the disk, and only then takes the name. It says what it should hold,
    so that a bit that has changed is noticed (`depthlab.run.checkpoints`), and what was `last.ckpt` is then
    `previous.ckpt`. Hand it to the trainer: `Trainer(plugins=[WholeCheckpoints()])`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write it; on rank 0 only, which is the strategy's business.

        Raises:
            UserError: it can't be written.
        """
        if "://" in str(path):  # a bucket, say, knows no renaming
            return super().save_checkpoint(checkpoint, path, storage_options)
        path = Path(path)
        with writing("the checkpoint", path) as unfinished:
            try:
                with unfinished.open("wb") as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # what the disk said, before torch missed its bytes
                    raise error.__context__ from None
                raise
            seal(unfinished)
            if path == run_of(path).last:
                _keep_as_previous(path)


def _keep_as_previous(last: Path) -> None:
    """Give the last checkpoint another name, too, unless it is damaged and would take the place of one that is not."""
    if not last.exists() or damage(last):
        return
    previous = run_of(last).previous
    second = beside(previous, UNFINISHED)
    try:
        os.link(last, second)
        second.replace(previous)
    except OSError:  # a file system without links: for a moment there is no last one
        with suppress(FileNotFoundError):
            second.unlink()
        last.replace(previous)
