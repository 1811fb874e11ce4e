"""One decision a token, early: halt there, or go all the way to the cap.

After token choice in mixture-of-recursions (Bae et al. 2025, arXiv:2507.10524); here a halted token's key and value
stay, so nothing is dropped, and what goes on is one packed batch of one shape to the end.
"""

from dataclasses import dataclass
from typing import NamedTuple

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

CAP = 1 << 30
"""A depth beyond any cap."""


class RouteState(NamedTuple):
    """What is remembered of a token."""

    sequence: Tensor
    """[...], its row in [B]."""
    real: Tensor
    """[...] bool, False on padding."""
    first: Tensor
    """[...] bool, True where a sequence begins."""
    depth: Tensor
    """[...] int64, how far it goes, once it is decided: 0 is no farther."""
    rarity: Tensor
    """Of its piece, [...] fp32, for the score."""
    gate: Tensor
    """g, [...] fp32: 1 where a token goes on, with the router's gradient."""


@dataclass(frozen=True)
class Route(HaltingRule):
    """Each token is decided about once, after iteration `route_at`: it halts there, or it runs to the cap L.

    A share of each sequence's tokens goes on: the first, in which heads read a sequence (PoWER-BERT keeps it, too,
    Goyal et al. 2020), and those of the highest scores (among equals the earlier). Or, with a threshold, all whose
    score is over it. With k = `route_at` the output is y = s^k + g (s^L - s^k), with g = 1 for tokens that go on and 0
    for others. Backward, g is the router's probability sigmoid(score) (straight-through), for the tokens that went on:
    so the loss says whether that has helped.

    With `route_depths` those that go on run to one of several depths in place of L, in as equal parts as can be, the
    highest scores to the last of them. After iteration 0 means by the embedding alone: what halts there has depth 0.

    Attributes:
        route_at: iteration after which it is decided, 0 to L - 1.
        route_share: c, share of a sequence's tokens that go on.
        route_threshold: in its place, the score over which a token goes on: for a router a logit, 0 for even odds.
        route_depths: where those that go on end, ascending; None: at the cap.
        route_score: "router", which is learnt; or of `RouteScore` one that needs no training.
    """

    act_update: str
    route_at: int = 1
    route_share: float = 0.5
    route_threshold: float | None = None
    route_score: RouteScore = "router"
    route_depths: list[int] | None = None

    def __post_init__(self) -> None:
        if self.act_update != "accumulate":
            raise UserError(f'halting "route" needs act_update "accumulate", not {self.act_update!r}')
        if self.route_at < 0:
            raise UserError(f"halting_settings.route_at must not be negative, got {self.route_at}")
        if self.route_at == 0 and self.route_score in ("change", "both"):
            raise UserError(
                f"halting_settings.route_score {self.route_score} needs route_at 1 or more: before it nothing has moved"
            )
        if not 0 <= self.route_share <= 1:
            raise UserError(f"halting_settings.route_share must lie in [0, 1], got {self.route_share}")
        depths = [self.route_at, *(self.route_depths or ())]
        if depths != sorted(set(depths)) or self.route_depths == []:
            raise UserError(f"halting_settings.route_depths must ascend from over route_at, got {self.route_depths}")

    @property
    def first(self) -> int:
        """0 where it is decided before the first iteration."""
        return min(self.route_at, 1)

    @property
    def dial(self) -> str:
        """The threshold where there is one."""
        return "route_share" if self.route_threshold is None else "route_threshold"

    def describe(self, cap: int) -> str:
        goes = f"a share of {self.route_share:g}" if self.route_threshold is None else f"over {self.route_threshold:g}"
        where = f" to {' or '.join(map(str, self.route_depths))}" if self.route_depths else ""
        return f"cap {cap}, decided after {self.route_at} by {self.route_score}: {goes} goes on{where}"

    def unit(self, hidden_size: int) -> Router | None:
        """`encoder.halting.score_weight` [1, 2 H] and `encoder.halting.score_bias` [1]."""
        return Router(hidden_size) if self.route_score == "router" else None

    def decides(self, n: int) -> bool:
        """There, and where some end."""
        return n == self.route_at or n in (self.route_depths or ())

    def asks(self, n: int) -> bool:
        """Once."""
        return n == self.route_at

    def begin(self, tokens: Tokens) -> RouteState:
        """Nobody is decided about."""
        gates = torch.ones_like(tokens.position, dtype=torch.promote_types(tokens.states.dtype, torch.float32))
        depth = torch.full_like(tokens.position, CAP)
        rare = rarity(self.route_score, tokens)
        return RouteState(tokens.sequence, tokens.real, leaders(tokens), depth, rare, gates)

    def ask(self, unit: Router, look: Look) -> Tensor:
        """The score."""
        return unit(look.before, look.new)

    def step(self, state: RouteState, look: Look) -> HaltingStep:
        """All weight is on a token's last state."""
        if look.n != self.route_at or look.at_cap:
            halted = (state.depth <= look.n) | look.at_cap
            return HaltingStep(torch.where(halted, state.gate, 0.0), halted, state)
        depth, ends = torch.zeros_like(state.depth), self.route_depths or [CAP]
        scores = score(self.route_score, look, state.rarity)
        if self.route_threshold is None:
            most = how_many(sizes(state.sequence, state.real), self.route_share)
            scores = scores.masked_fill(state.first, torch.inf)
        else:
            most = sizes(state.sequence, state.real & (scores > self.route_threshold))
        for number, end in enumerate(ends):
            so_far = most - (most * number / len(ends)).floor()
            depth = torch.where(best(scores, state.sequence, state.real, so_far), end, depth)
        goes_on = depth > 0  # what halts can't tell what going on would have brought
        gates = torch.where(goes_on, straight_through(gate(look)), 0.0)
        return HaltingStep(1 - gates, ~goes_on, state._replace(depth=depth, gate=gates))
