"""One decision a token, early: halt there, or go all the way to the cap.

After token choice in mixture-of-recursions (Bae et al. 2025, arXiv:2507.10524); here a halted token's key and value
stay, so nothing is dropped, and what goes on is one packed batch of one shape to the end.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from depthlab.errors import UserError
from depthlab.models.halting.router import Router, RouteScore, best, change, initialise_router, sizes
from depthlab.models.halting.rule import HaltingRule, HaltingStep, Look, Tokens


class RouteState(NamedTuple):
    """What is remembered of a token."""

    sequence: Tensor
    """[...], its row in [B]."""
    real: Tensor
    """[...] bool, False on padding."""
    first: Tensor
    """[...] bool, True where a sequence begins."""
    gate: Tensor
    """g, [...] fp32: 1 where a token goes on, with the router's gradient."""


@dataclass(frozen=True)
class Route(HaltingRule):
    """Each token is decided about once, after iteration `route_at`: it halts there, or it runs to the cap L.

    A share of each sequence's tokens goes on: the first, in which heads read a sequence (PoWER-BERT keeps it, too: Goyal
    et al. 2020), and those of the highest scores (among equals the earlier). Or, with a threshold, all whose score is
    over it. With k = `route_at` the output is y = s^k + g (s^L - s^k), with g = 1 for tokens that go on and 0 for others. Backward, g is the router's probability
    sigmoid(score) (straight-through), for the tokens that went on: so the loss says whether that has helped.

    Attributes:
        route_at: iteration after which it is decided, 1 to L - 1.
        route_share: c, share of a sequence's tokens that go on.
        route_threshold: in its place, the score over which a token goes on: for a router a logit, 0 for even odds.
        route_score: "router", which is learnt; or "change", |s - h| / |h| of that iteration, which needs no training.
    """

    act_update: str
    route_at: int = 1
    route_share: float = 0.5
    route_threshold: float | None = None
    route_score: RouteScore = "router"

    def __post_init__(self) -> None:
        if self.act_update != "accumulate":
            raise UserError(f'halting "route" needs act_update "accumulate", not {self.act_update!r}')
        if self.route_at < 1:
            raise UserError(f"halting_settings.route_at must be at least 1, got {self.route_at}")
        if not 0 <= self.route_share <= 1:
            raise UserError(f"halting_settings.route_share must lie in [0, 1], got {self.route_share}")

    @property
    def dial(self) -> str:
        """The threshold where there is one."""
        return "route_share" if self.route_threshold is None else "route_threshold"

    def describe(self, cap: int) -> str:
        goes = f"a share of {self.route_share:g}" if self.route_threshold is None else f"over {self.route_threshold:g}"
        return f"cap {cap}, decided after {self.route_at} by {self.route_score}: {goes} goes on"

    def unit(self, hidden_size: int) -> Router | None:
        """`encoder.halting.score_weight` [1, 2 H] and `encoder.halting.score_bias` [1]."""
        return Router(hidden_size) if self.route_score == "router" else None

    def initialise(self, module: nn.Module) -> None:
        """Weights as everywhere else are the model's business; here all scores are 0."""
        initialise_router(module)

    def decides(self, n: int) -> bool:
        """Once."""
        return n == self.route_at

    def begin(self, tokens: Tokens) -> RouteState:
        """Nobody is decided about."""
        gate = torch.ones_like(tokens.position, dtype=torch.promote_types(tokens.states.dtype, torch.float32))
        position, length = tokens.position, tokens.length
        return RouteState(position // length, tokens.real, position % length == 0, gate)

    def ask(self, unit: Router, look: Look) -> Tensor:
        """The score."""
        return unit(look.before, look.new)

    def step(self, state: RouteState, look: Look) -> HaltingStep:
        """All weight is on a token's last state."""
        nobody = torch.zeros_like(state.real)
        if look.at_cap:
            return HaltingStep(state.gate, ~nobody, state)
        if look.n != self.route_at:
            return HaltingStep(torch.zeros_like(state.gate), nobody, state)
        scores = change(look) if look.asked is None else look.asked
        if self.route_threshold is None:
            most = (sizes(state.sequence, state.real) * self.route_share).round().clamp(min=int(self.route_share > 0))
            scored = scores.detach().masked_fill(state.first, torch.inf)
            goes_on = best(scored, state.sequence, state.real, most)
        else:
            goes_on = scores > self.route_threshold
        gate = goes_on.to(state.gate.dtype)
        if look.asked is not None:  # what halts can't tell what going on would have brought
            probability = torch.sigmoid(scores)
            gate = torch.where(goes_on, 1 + probability - probability.detach(), gate)
        return HaltingStep(1 - gate, ~goes_on, state._replace(gate=gate))
