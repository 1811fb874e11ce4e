"""Halting at depths known beforehand, so that the work of an iteration is known too."""

import torch
from torch import Tensor, nn


class ImposedHalting(nn.Module):
    """In place of the halting unit: every token halts at the depth given for it, far from the threshold.

    Takes the states [B, T, H] of the dense execution and, in their order, the running rows [R, H] of the compact one.
    Starts over when its last iteration has passed.

    Args:
        depths: [B, T], at most 63; 0 on padding.
    """

    def __init__(self, depths: Tensor) -> None:
        super().__init__()
        self.depths, self.n, self.last = depths, 0, int(depths.max())

    def forward(self, states: Tensor) -> Tensor:
        self.n = self.n % self.last + 1
        depths = self.depths if states.ndim == 3 else self.depths[self.depths >= self.n]
        return torch.where(depths == self.n, 1.0, 0.9 / 64).to(torch.promote_types(states.dtype, torch.float32))
