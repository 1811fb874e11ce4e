"""Stop once the prediction has stood for some iterations: PABEE (Zhou et al. 2020, arXiv:2006.04152), with one head."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models.halting.early import EarlyExit, logits_of
from depthlab.models.halting.rule import Look, Tokens


@dataclass(frozen=True)
class Patience(EarlyExit):
    """The prediction has not changed for so many iterations.

    Attributes:
        patience: k: how often in a row an iteration must leave the prediction as it was; 0: every token stops after the
            first.
        patience_within: of a regression: by less than how much a number must have moved to be the same.
        halts: as `EarlyExit`.
    """

    dial: ClassVar[str] = "patience"

    patience: int = 2
    patience_within: float = 0.1

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise UserError(f"halting_settings.patience must be 0 or more, got {self.patience}")

    def decides(self, n: int) -> bool:
        """Iteration n has left the prediction as it was n - 1 times at most."""
        return n > self.patience

    def remember(self, tokens: Tokens) -> Tensor:
        """The last prediction, none yet, and how often it has stood."""
        memory = torch.zeros_like(tokens.states[..., :2], dtype=torch.promote_types(tokens.states.dtype, torch.float32))
        memory[..., 0] = torch.nan
        return memory

    def judge(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Count."""
        logits, (before, stood) = logits_of(look, "patience", classes=False), memory.unbind(-1)
        if logits.shape[-1] == 1:
            now = logits.squeeze(-1)
            same = (now - before).abs() < self.patience_within
        else:
            now = logits.argmax(dim=-1)
            same = now == before
        stood = (stood + 1) * same
        return stood >= self.patience, torch.stack([now.to(stood.dtype), stood], dim=-1)
