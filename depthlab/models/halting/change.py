"""Stop once an iteration hardly changes the state, or changes it as the one before did."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from depthlab.models.halting.early import EarlyExit, Halts
from depthlab.models.halting.rule import Look, Tokens


@dataclass(frozen=True)
class Change(EarlyExit):
    """Relative change of the state below a threshold; it needs neither training nor a head.

    With d^n = s^n - h^{n-1} and d^0 = 0, the change is |d^n| / |h^{n-1}|, or of the second order
    |d^n - d^{n-1}| / |h^{n-1}|: steps that do not shrink may still have become alike.

    Attributes:
        change_threshold: below it a token stops; 0: never.
        change_order: 1 or 2.
        halts: as `EarlyExit`.
    """

    dial: ClassVar[str] = "change_threshold"

    halts: Halts = "tokens"
    change_threshold: float = 0.2
    change_order: Literal[1, 2] = 1

    def remember(self, tokens: Tokens) -> Tensor:
        """d^0, of the second order."""
        return torch.zeros_like(tokens.states) if self.change_order == 2 else super().remember(tokens)

    def judge(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        """By the length of the last step, or of its difference from the one before."""
        step = look.new - look.before
        moved = step - memory if self.change_order == 2 else step
        dtype = torch.promote_types(moved.dtype, torch.float32)
        far, length = (torch.linalg.vector_norm(one, dim=-1, dtype=dtype) for one in (moved, look.before))
        return far < self.change_threshold * length, step if self.change_order == 2 else memory
