"""Steers the price of depth while a model trains, until its mean depth is what was asked for."""

import math

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from depthlab.errors import UserError
from depthlab.metrics.pretraining import SUM_DTYPE

HORIZON = 5
"""Optimiser steps over which the error is smoothed: a batch's mean depth is a sample of it."""
INTEGRAL = 0.05
"""By how much the logarithm of the price moves in a step, for an error of 1."""
PROPORTIONAL = 15.0
"""What is added for the error of the moment. Depth follows the price late; without this it would swing."""


MOST = 0.2
"""What an error counts for at most: from afar depth is approached at an even pace."""


class DepthTarget:
    """A controller: tau is what was given, times a factor whose logarithm moves with the smoothed error.

    With d_t the mean depth of the tokens of optimiser step t, and d the target,

        e_t = e_{t-1} + (log(d_t / d) - e_{t-1}) / HORIZON
        I_t = I_{t-1} + INTEGRAL e_t
        tau_{t+1} = tau exp(I_t + PROPORTIONAL e_t),   e_0 = I_0 = 0

    So it rests where d_t = d, at whatever price that takes. A price can't be negative: what is deeper than the model
    would go for nothing is out of reach.

    Args:
        target: d.
        cap: L, the most iterations.

    Raises:
        UserError: the target is not between 1 and the cap.
    """

    def __init__(self, target: float, cap: int) -> None:
        if not 1 <= target <= cap:
            raise UserError(f"model.depth.target must lie between 1 and the cap {cap}, got {target:g}")
        self.target = target
        self.state = torch.zeros(2, dtype=SUM_DTYPE)
        """e and I; on the device, so that no step waits for them."""
        self._seen: Tensor | None = None  # iterations and tokens of the step so far, [2]

    @property
    def factor(self) -> Tensor:
        """Of the given price, [] fp32."""
        error, integral = self.state
        return torch.exp(integral + PROPORTIONAL * error).float()

    def add(self, depths: Tensor) -> None:
        """See a piece of an optimiser step: [B, T], 0 on padding."""
        seen = torch.stack([depths.sum(), (depths > 0).sum()]).to(SUM_DTYPE)
        self._seen = seen if self._seen is None else self._seen + seen

    def steer(self, strategy: Strategy) -> None:
        """After an optimiser step, from what all ranks have seen of it; if they have."""
        if self._seen is None:
            return
        iterations, tokens = strategy.reduce(self._seen, reduce_op="sum")
        self._seen = None
        error, integral = self.state.to(iterations.device)
        now = (torch.log(iterations / tokens) - math.log(self.target)).clamp(-MOST, MOST)
        error = error + (now - error) / HORIZON
        self.state = torch.stack([error, integral + INTEGRAL * error])
