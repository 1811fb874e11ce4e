"""Halting at depths known beforehand, so that the work of an iteration is known too."""

from dataclasses import dataclass

import torch
from torch import Tensor

from depthlab.models.halting import HaltingRule
from depthlab.models.halting.act import Act, ActState
from depthlab.models.imposed import ImposedState

EARLY = 0.9 / 64
"""The probability before a token's last iteration."""


@dataclass(frozen=True)
class ImposedHalting(HaltingRule):
    """A call's `halting_rule` by which every token halts at the depth given, far from the threshold."""

    depths: Tensor  # [B, T], at most 63; 0 on padding

    def begin(self, tokens):
        return ImposedState(self.depths.flatten()[tokens.position], *Act().begin(tokens))

    def step(self, state, look):
        probability = torch.where(state.depths == look.n, 1.0, EARLY).to(state.accumulated.dtype)
        step = Act().step(ActState(state.accumulated), look._replace(asked=probability))
        return step._replace(state=ImposedState(state.depths, *step.state))
