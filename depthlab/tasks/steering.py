"""Steers the price of depth while a model trains, until its mean depth is what was asked for."""

import math

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from transformers import PreTrainedConfig

from depthlab.errors import UserError
from depthlab.metrics.pretraining import SUM_DTYPE

HORIZON = 10
"""Optimiser steps over which the error is smoothed: a batch's mean depth is a sample of it."""
LOWEST, HIGHEST = -0.3, 0.1
"""What an error counts for at most: from afar depth is approached at an even pace, lest it falls through."""
PROPORTIONAL, INTEGRAL, LEAD = 5.0, 0.1, 10
"""By how much the logarithm of the price is moved by an error of 1: at once, and with each step; and how many steps
ahead the error is looked for. Depth follows its price late: where it falls, the price must give way before it is
there."""
FURTHEST = math.log(1000)
"""How far errors that add up may move it: a depth that does not answer, or is to be that of the cap, has them for ever.
"""
BONUS = 0.3
"""Where the price has fallen to half of the given one, the root of this, it passes through 0: depth is paid for from
there on. For nothing, a model need not go as deep as was asked for, nor come back where it has gone too far: its
halting unit is saturated then, and an optimiser as Adam, which measures by the largest gradients of late, hardly moves
it until depth is paid for nearly as highly as it was charged."""


class DepthTarget:
    """A controller: tau is what was given, times a factor whose logarithm u moves with the smoothed error.

    With d_t the mean depth of the tokens of optimiser step t, d the target, and x_t = log(d_t / d), which counts for no
    less than LOWEST and no more than HIGHEST,

        e_t = e_{t-1} + (x_t - e_{t-1}) / HORIZON
        I_t = I_{t-1} + INTEGRAL e_t, between -FURTHEST and FURTHEST
        u_t = I_t + PROPORTIONAL (e_t + LEAD (e_t - e_{t-1})),   e_0 = x_1, I_0 = 0
        tau_{t+1} = tau (exp(u_t) - BONUS exp(-u_t)) / (1 - BONUS)

    So it rests where d_t = d, at whatever price that takes. BONUS is of account where depth is worth little.

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
        self.state: Tensor | None = None
        """e_t, e_{t-1} and I_t, [3]; on the device, so that no step waits for them. None before the first step."""
        self._seen: Tensor | None = None  # iterations and tokens of the step so far, [2]

    @property
    def factor(self) -> float | Tensor:
        """Of the given price, [] fp32."""
        if self.state is None:
            return 1.0
        error, earlier, integral = self.state
        moved = integral + PROPORTIONAL * (error + LEAD * (error - earlier))
        return ((torch.exp(moved) - BONUS * torch.exp(-moved)) / (1 - BONUS)).float()

    def add(self, depths: Tensor, real: Tensor) -> None:
        """See a piece of an optimiser step: depths [B, T], and 0 in `real` on padding."""
        seen = torch.stack([depths.sum(), (real != 0).sum()]).to(SUM_DTYPE)
        self._seen = seen if self._seen is None else self._seen + seen

    def steer(self, strategy: Strategy) -> None:
        """After an optimiser step, from what all ranks have seen of it; if they have."""
        if self._seen is None:
            return
        iterations, tokens = strategy.reduce(self._seen, reduce_op="sum")
        self._seen = None
        now = (torch.log(iterations / tokens) - math.log(self.target)).clamp(LOWEST, HIGHEST)
        error, _, integral = torch.stack([now, now, 0 * now]) if self.state is None else self.state.to(now.device)
        smoothed = error + (now - error) / HORIZON
        self.state = torch.stack([smoothed, error, (integral + INTEGRAL * smoothed).clamp(-FURTHEST, FURTHEST)])


def target_of(config: PreTrainedConfig, cap: int | None, target: float) -> DepthTarget:
    """The controller for a model of this cap; None: its tokens have no depth of their own.

    Raises:
        UserError: depth has no price that could be steered; or the target is out of its range.
    """
    rule = None if cap is None else config.rule
    if rule is None or not (rule.charges_for_depth and rule.chooses(training=True)):
        instead = f": set its {rule.dial}" if rule is not None and rule.dial else ""
        raise UserError(f"model.depth.target steers the price of depth, and here depth has none{instead}")
    if not config.time_penalty:
        raise UserError("model.depth.target multiplies tau: begin with a model.depth.time_penalty above 0")
    return DepthTarget(target, cap)
