"""Random depth in training, the cap otherwise: what comes out early must be of use, too (Huginn, arXiv:2502.05171)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models.halting.fixed import Fixed
from depthlab.models.halting.rule import HaltingStep, Look, Tokens, on_the_last


class RandomState(NamedTuple):
    """What is remembered of a token."""

    depth: Tensor
    """[...], the same for all."""


@dataclass(frozen=True)
class Random(Fixed):
    """Every token of a batch as often as was drawn for the batch: 1 + Poisson(e^t), t normal; the cap cuts it.

    With mean r and spread s, t has the mean log r - s^2 / 2 and the standard deviation s, so that e^t has the mean r.

    Attributes:
        random_mean: r, above 0.
        random_spread: s, 0 or more; 0.5 is Huginn's.
    """

    act_update: str
    random_mean: float = 4.0
    random_spread: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.random_mean < math.inf:
            raise UserError(f"halting_settings.random_mean must be above 0, got {self.random_mean}")
        if not 0 <= self.random_spread < math.inf:
            raise UserError(f"halting_settings.random_spread must be 0 or more, got {self.random_spread}")

    @classmethod
    def chooses(cls, training: bool) -> bool:
        """In training, for all."""
        return training

    def begin(self, tokens: Tokens) -> RandomState:
        """Draw, from torch's generator of the CPU: the same on any device."""
        t = math.log(self.random_mean) - self.random_spread**2 / 2 + self.random_spread * torch.randn(())
        depth = 1 + torch.poisson(t.exp()).long()
        return RandomState(depth.to(tokens.position.device).expand(tokens.position.shape))

    def step(self, state: RandomState, look: Look) -> HaltingStep:
        """All weight is on the last state."""
        return on_the_last((state.depth <= look.n) | look.at_cap, look, self.act_update, state)

    def describe(self, cap: int) -> str:
        return f"fixed, {cap}; in training random, {self.random_mean:g} and 1 on average"
