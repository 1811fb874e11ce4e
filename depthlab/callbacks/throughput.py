"""Watches how fast training goes, and how much of the fixed-depth model's work it needs."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class ThroughputMonitor(Callback):
    """Logs `throughput/{tokens,token_iterations,steps}_per_second` of training, validation excluded, over all ranks.

    A token-iteration is one application of the layer to one real token. The totals of the run are kept with its
    checkpoints, so that they are right after resuming.
    """

    def __init__(self) -> None:
        self.tokens = 0  # seen in training so far, all ranks
        self.token_iterations = 0
        self.seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The totals."""
        return {"tokens": self.tokens, "token_iterations": self.token_iterations, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from these totals."""
        self.__dict__.update(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        if trainer.training or trainer.validating:
            self._paused_at = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the validation's time out."""
        if hasattr(self, "_started_at"):
            self._started_at += time.monotonic() - self._paused_at

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Count on the device; read the counts at the task's pace."""
        depths = outputs["depths"]
        self._window += torch.stack([(depths > 0).sum(), depths.sum()])
        if not pl_module.is_logging_step(batch_idx):
            return
        tokens, token_iterations = trainer.strategy.reduce(self._window, reduce_op="sum").tolist()
        seconds = time.monotonic() - self._started_at
        self.tokens += tokens
        self.token_iterations += token_iterations
        self.seconds += seconds
        rates = {
            "tokens": tokens,
            "token_iterations": token_iterations,
            "steps": trainer.global_step - self._started_at_step,
        }
        pl_module.log_dict({f"throughput/{name}_per_second": value / seconds for name, value in rates.items()})
        self._begin(pl_module)

    def _begin(self, pl_module: LightningModule) -> None:
        self._window = torch.zeros(2, dtype=torch.long, device=pl_module.device)
        self._started_at = time.monotonic()
        self._started_at_step = pl_module.global_step
