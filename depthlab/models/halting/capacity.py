"""Expert choice: each iteration keeps the tokens that score best, as many as were set beforehand.

After mixture-of-recursions (Bae et al. 2025, arXiv:2507.10524). An encoder sees whole sequences, so the choice is the
same at inference, and needs no auxiliary loss.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from depthlab.errors import UserError
from depthlab.models.halting.router import (
    Router,
    RouteScore,
    best,
    gate,
    how_many,
    rarity,
    score,
    sizes,
    straight_through,
)
from depthlab.models.halting.rule import HaltingRule, HaltingStep, Look, Tokens
from depthlab.models.halting.sequences import leaders


class CapacityState(NamedTuple):
    """What is remembered of a token."""

    sequence: Tensor
    """[...], its row in [B]."""
    first: Tensor
    """[...] bool, True where a sequence begins."""
    tokens: Tensor
    """[...], real tokens of its sequence."""
    running: Tensor
    """[...] bool"""
    rarity: Tensor
    """Of its piece, [...] fp32, for the score."""
    gate: Tensor
    """g_n of the next iteration, [...] fp32; 1 for the first, which nobody chooses."""


@dataclass(frozen=True)
class Capacity(HaltingRule):
    """Iteration n takes a share c_n of each sequence's tokens: of those that ran in n - 1 the ones of the best scores,
    and before all the first, in which heads read a sequence.

    c_1 = 1, and capacity 0.5 is the linear schedule of the paper, c_n = (L - n + 1) / L. Below it that is scaled down,
    c_n = 2 c (L - n + 1) / L; above it what it leaves out is, c_n = 1 - 2 (1 - c) (n - 1) / L. So the mean depth is
    1 + c (L - 1), but for rounding to whole tokens, of which at least that one goes on.

    The gate g_n is the router's probability, sigmoid(score), after iteration n - 1, and g_1 = 1. With act_update
    "blend" the state moves by it, h^n = h^{n-1} + g_n (s^n - h^{n-1}): the paper's H + g f(H), for layers whose output
    is the state. With "accumulate" it moves all the way, and the output is y = s^1 + sum_n g_n (s^n - s^{n-1}) with
    g_n = 1 forward and the probability backward, as in `route`: capacity 1 is then the fixed depth.

    Attributes:
        capacity: c, in [0, 1]: 0 is one iteration, 1 the cap for all.
        capacity_score: "router", which is learnt; or of `RouteScore` one that needs no training, whose gate is 1.
    """

    dial: ClassVar[str] = "capacity"

    act_update: str
    num_hidden_layers: int
    capacity: float = 0.5
    capacity_score: RouteScore = "router"

    def __post_init__(self) -> None:
        if not 0 <= self.capacity <= 1:
            raise UserError(f"halting_settings.capacity must lie in [0, 1], got {self.capacity}")

    def describe(self, cap: int) -> str:
        return f"cap {cap}, capacity {self.capacity:g} by {self.capacity_score}"

    def unit(self, hidden_size: int) -> Router | None:
        """The same as that of `route`, which reads the states before and after the last iteration."""
        return Router(hidden_size) if self.capacity_score == "router" else None

    def share(self, n: int) -> float:
        """c_n, for n > 1."""
        linear = (self.num_hidden_layers - n + 1) / self.num_hidden_layers
        return 2 * self.capacity * linear if self.capacity <= 0.5 else 1 - 2 * (1 - self.capacity) * (1 - linear)

    def decides(self, n: int) -> bool:
        """Who takes n + 1, where there is one."""
        return n < self.num_hidden_layers

    def begin(self, tokens: Tokens) -> CapacityState:
        """All run."""
        sequence = tokens.sequence
        gates = torch.ones_like(sequence, dtype=torch.promote_types(tokens.states.dtype, torch.float32))
        count, rare = sizes(sequence, tokens.real), rarity(self.capacity_score, tokens)
        return CapacityState(sequence, leaders(tokens), count, tokens.real, rare, gates)

    def ask(self, unit: Router, look: Look) -> Tensor:
        """The score."""
        return unit(look.before, look.new)

    def step(self, state: CapacityState, look: Look) -> HaltingStep:
        """Keep the best."""
        if look.at_cap:
            return HaltingStep(state.gate, torch.ones_like(state.running), state)
        most = how_many(state.tokens, self.share(look.n + 1))
        scores = score(self.capacity_score, look, state.rarity).masked_fill(state.first, torch.inf)
        goes_on = best(scores, state.sequence, state.running, most)
        weight, later = state.gate, gate(look)
        if self.act_update == "accumulate":
            later = torch.where(goes_on, straight_through(later), 0.0)
            weight = weight - later
        return HaltingStep(weight, ~goes_on, state._replace(running=goes_on, gate=later))
