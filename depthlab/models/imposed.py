"""Depths decided from outside instead of by the halting unit: controls for whether it matters *which* token halts."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models.halting import HaltingRule, HaltingStep, Look, Tokens
from depthlab.models.halting.act import Act, ActState

BELOW = 0.999
"""Share of the way to the threshold that a token which is to go on can reach: far enough from it for any rounding."""


def impose(rule: HaltingRule, depths: Tensor) -> "Imposed":
    """The rule, for a call's `halting_rule`, by which a token takes as many iterations as `depths` [B, T] says.

    1 to L; 0 on padding.

    The halting unit still gives the weights of a token's iterations: its probabilities, kept below the threshold until
    the last one, which has the remainder, also at a truncated cap.

    Raises:
        UserError: the rule is not "act".
    """
    if not isinstance(rule, Act):
        raise UserError('depths can be imposed on halting="act" only: its halting unit gives the weights')
    return Imposed(rule, depths)


class ImposedState(NamedTuple):
    """Of the tokens that run."""

    depths: Tensor
    """[...], when each has to halt."""
    accumulated: Tensor
    """ACT's, [...]."""


@dataclass(frozen=True)
class Imposed(HaltingRule):
    """ACT, told when a token is to halt."""

    act: Act
    depths: Tensor
    """[B, T]"""

    def begin(self, tokens: Tokens) -> ImposedState:
        """The depths go with their tokens."""
        return ImposedState(self.depths.flatten()[tokens.position], *self.act.begin(tokens))

    def step(self, state: ImposedState, look: Look) -> HaltingStep:
        """ACT's, by other probabilities."""
        room = (1 - self.act.act_epsilon - state.accumulated).clamp(min=0)
        probability = torch.where(state.depths == look.n, 1.0, torch.minimum(look.asked, BELOW * room))
        step = self.act.step(ActState(state.accumulated), look._replace(asked=probability))
        return step._replace(state=ImposedState(state.depths, *step.state))
