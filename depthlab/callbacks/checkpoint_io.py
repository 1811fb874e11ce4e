"""How a run's checkpoints get onto the disk."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from depthlab.files import writing


class WholeCheckpoints(TorchCheckpointIO):
    """Leaves the old checkpoint or the new one, whole, whatever happens: a kill, a full disk, a power cut.

    Lightning's own writes to `$TMPDIR` and, where that is on another file system, copies from there over the old one.
    What this writes lies beside its place, is on the disk, and only then takes the name. Hand it to the trainer:
    `Trainer(plugins=[WholeCheckpoints()])`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write it; on rank 0 only, which is the strategy's business.

        Raises:
            UserError: it can't be written.
        """
        if "://" in str(path):  # a bucket, say, knows no renaming
            return super().save_checkpoint(checkpoint, path, storage_options)
        with writing("the checkpoint", Path(path)) as unfinished:
            try:
                with unfinished.open("wb") as file:
                    torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # what the disk said, before torch missed its bytes
                    raise error.__context__ from None
                raise
