"""What rules for after training share: a token, or a whole sequence by its [CLS], stops once it stands.

They learn nothing and take any checkpoint. States are those of the plain model: a token moves by the whole layer, and
its last state is what leaves the encoder, whatever `act_update` it was trained with. Decisions have no gradient.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models.halting.rule import HaltingRule, HaltingStep, Look, Tokens, on_the_last
from depthlab.models.halting.sequences import leaders, of_leader

Halts = Literal["tokens", "sequences"]


class EarlyState(NamedTuple):
    """What is remembered of a token."""

    leads: Tensor
    """[...] bool: whether it is the first real token of its sequence, [CLS]."""
    memory: Tensor
    """[..., K], what the rule compares with; of a sequence all tokens remember the same."""


@dataclass(frozen=True)
class EarlyExit(HaltingRule):
    """Stop where `judge` says so.

    Attributes:
        halts: "tokens", each by itself; or "sequences" by their first token, all of whose tokens then halt at once.
    """

    act_update: str
    halts: Halts = "sequences"

    def judge(self, look: Look, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Who stops, [...] bool, and what to remember, [..., K].

        Args:
            look: of the tokens that are judged; the head is there if the model has one.
            memory: [..., K], as this method or `remember` has left it.
        """
        raise NotImplementedError

    def remember(self, tokens: Tokens) -> Tensor:
        """The memory [..., K] before the first iteration; by default there is none, K = 0."""
        return tokens.states[..., :0]

    def begin(self, tokens: Tokens) -> EarlyState:
        """Find the first token of each sequence."""
        return EarlyState(leaders(tokens), self.remember(tokens))

    @torch.no_grad()
    def step(self, state: EarlyState, look: Look) -> HaltingStep:
        """All weight is on a token's last state."""
        memory = state.memory
        if look.at_cap:
            halted = torch.ones_like(state.leads)
        elif self.halts == "tokens":
            halted, memory = self.judge(look, memory)
        else:
            of_first = (None if one is None else one[state.leads] for one in (look.before, look.new, look.asked))
            first = look._replace(**dict(zip(("before", "new", "asked"), of_first, strict=True)))
            halted, memory = self.judge(first, memory[state.leads])
            halted, memory = (of_leader(state.leads, one) for one in (halted, memory))
        return on_the_last(halted, look, self.act_update, EarlyState(state.leads, memory))


def logits_of(look: Look, rule: str, classes: bool = True) -> Tensor:
    """What the model's head says of the new states, [..., C] in fp32 at least.

    Raises:
        UserError: the model has no head; or, where the rule needs classes, its head says one number.
    """
    if look.head is None:
        raise UserError(
            f'halting "{rule}" reads a head of words or classes, and this model has none: load it with one, or take '
            '"change"'
        )
    logits = look.head(look.new)
    if classes and logits.shape[-1] == 1:
        raise UserError(f'halting "{rule}" needs classes, and the head says one number: take "patience" or "change"')
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
