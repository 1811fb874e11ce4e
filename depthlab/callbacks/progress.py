"""The progress bar."""

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's rich bar. Training is counted in steps, so it names the epoch it is in, and no last one."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch}"
