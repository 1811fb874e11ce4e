"""Depths decided from outside instead of by the halting unit: controls for whether it matters *which* token halts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models.encoder import AdaptiveAlbertTransformer
from depthlab.models.halting import HaltingRule, HaltingStep, Look, Tokens
from depthlab.models.halting.act import Act, ActState

BELOW = 0.999
"""Share of the way to the threshold that a token which is to go on can reach: far enough from it for any rounding."""


@contextmanager
def imposed_depths(encoder: AdaptiveAlbertTransformer, depths: Tensor) -> Iterator[None]:
    """Within it, every token takes as many iterations, 1 to L, as `depths` [B, T] says; 0 on padding.

    The halting unit still gives the weights of a token's iterations: its probabilities, kept below the threshold until
    the last one, which has the remainder, also at a truncated cap.

    Raises:
        UserError: the encoder does not halt by "act".
    """
    if not isinstance(encoder.rule, Act):
        raise UserError('depths can be imposed on halting="act" only: its halting unit gives the weights')
    encoder.imposed = Imposed(encoder.rule, depths)
    try:
        yield
    finally:
        encoder.imposed = None


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
