"""Fixed depth, with a loss after every iteration in training: it makes early exits good (PABEE, arXiv:2006.04152)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from depthlab.models.halting.fixed import Fixed
from depthlab.models.halting.rule import Tokens


@dataclass(frozen=True)
class Every(Fixed):
    """Every token L times; the loss is sum_n n loss_n / sum_n n, loss_n being the head's after iteration n."""

    learns_everywhere: ClassVar[bool] = True

    def weigh(self, unit: nn.Module | None, tokens: Tokens, states: Sequence[Tensor]) -> tuple[Tensor, None]:
        """PABEE's: later iterations count more."""
        dtype = torch.promote_types(tokens.states.dtype, torch.float32)
        n = torch.arange(1, len(states) + 1, dtype=dtype, device=tokens.states.device)
        return (n / n.sum()).view(-1, *[1] * tokens.position.ndim).expand(-1, *tokens.position.shape), None

    def describe(self, cap: int) -> str:
        return f"fixed, {cap}; a loss after every iteration"
