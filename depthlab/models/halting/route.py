"""One decision a token, early: halt there, or go all the way to the cap.

After token choice in mixture-of-recursions (Bae et al. 2025, arXiv:2507.10524); here a halted token's key and value
stay, so nothing is dropped, and what goes on is one packed batch of one shape to the end.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from depthlab.errors import UserError
from depthlab.models.halting.rule import HaltingRule, HaltingStep, Look, Tokens

RouteScore = Literal["router", "change"]


class Router(nn.Module):
    """A token's score, w . [h, s] + b, of its states before and after an iteration.

    Computed in fp32 at least, under any autocast: scores are compared with each other. Its names are none of a halting
    unit's, so that a checkpoint with the one loads with the other, which is new then.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.score_weight = nn.Parameter(torch.empty(1, 2 * hidden_size))
        self.score_bias = nn.Parameter(torch.empty(1))

    def forward(self, before: Tensor, new: Tensor) -> Tensor:
        """[..., H] twice -> [...], any number: the larger, the sooner a token goes on."""
        dtype = torch.promote_types(new.dtype, torch.float32)
        with torch.autocast(new.device.type, enabled=False):
            both = torch.cat([before.to(dtype), new.to(dtype)], dim=-1)
            return F.linear(both, self.score_weight.to(dtype), self.score_bias.to(dtype)).squeeze(-1)

    @torch.no_grad()
    def start_from(self, before: Tensor, new: Tensor, scores: Tensor, share: float) -> None:
        """Take over other scores, by least squares; this share of the tokens is to have more than even odds.

        Args:
            before: [N, H], states of tokens before the iteration of the decision.
            new: [N, H], and after it.
            scores: [N], in any unit: they are standardised.
            share: in (0, 1).
        """
        # On the CPU: only there is a solver that bears features which depend on each other.
        features = F.pad(torch.cat([before, new], dim=-1).double().cpu(), (0, 1), value=1.0)
        wanted = scores.double().cpu()
        wanted = (wanted - wanted.mean()) / wanted.std()
        solution = torch.linalg.lstsq(features, wanted[:, None], driver="gelsd").solution.squeeze(1)
        even = torch.quantile(features[: 2**20] @ solution, 1 - share)
        self.score_weight.copy_(solution[None, :-1])
        self.score_bias.copy_(solution[-1] - even)


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

    A share of each sequence's tokens goes on: the first, which heads read (PoWER-BERT, Goyal et al. 2020, keeps it),
    and those of the highest scores (among equals the earlier). Or, with a threshold, all whose score is over it. With
    k = `route_at` the output is y = s^k + g (s^L - s^k), with g = 1 for tokens that go on and 0 for others. Backward, g
    is the router's probability sigmoid(score) (straight-through), for the tokens that went on: so the loss says whether
    that has helped.

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

    def describe(self, cap: int) -> str:
        goes = f"a share of {self.route_share:g}" if self.route_threshold is None else f"over {self.route_threshold:g}"
        return f"cap {cap}, decided after {self.route_at} by {self.route_score}: {goes} goes on"

    def unit(self, hidden_size: int) -> Router | None:
        """`encoder.halting.score_weight` [1, 2 H] and `encoder.halting.score_bias` [1]."""
        return Router(hidden_size) if self.route_score == "router" else None

    def initialise(self, module: nn.Module) -> None:
        """Weights as everywhere else are the model's business; here all scores are 0."""
        if isinstance(module, Router):
            init.zeros_(module.score_weight)
            init.zeros_(module.score_bias)

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
        scores = look.asked
        if scores is None:
            scores = (look.new - look.before).float().norm(dim=-1) / look.before.float().norm(dim=-1)
        if self.route_threshold is None:
            scored = scores.detach().masked_fill(state.first, torch.inf)
            goes_on = _best(scored, state.sequence, state.real, self.route_share)
        else:
            goes_on = scores > self.route_threshold
        gate = goes_on.to(state.gate.dtype)
        if look.asked is not None:  # what halts can't tell what going on would have brought
            probability = torch.sigmoid(scores)
            gate = torch.where(goes_on, 1 + probability - probability.detach(), gate)
        return HaltingStep(1 - gate, ~goes_on, state._replace(gate=gate))


def _best(scores: Tensor, sequence: Tensor, real: Tensor, share: float) -> Tensor:
    """[...] bool: of each sequence's real tokens the share with the highest scores, at least one unless it is 0.

    It is rounded to the nearest number of tokens; scores, sequence and real are [...].
    """
    shape, (scores, sequence, real) = scores.shape, (one.flatten() for one in (scores, sequence, real))
    order = torch.where(real, scores, -torch.inf).argsort(descending=True, stable=True)
    order = order[sequence[order].argsort(stable=True)]  # sequence by sequence, the best first
    ordered = sequence[order]
    start, end = (torch.searchsorted(ordered, ordered, right=right) for right in (False, True))
    seen = F.pad(real[order].cumsum(0), (1, 0))
    most = ((seen[end] - seen[start]) * share).round().clamp(min=int(share > 0))
    rank = torch.arange(len(order), device=order.device) - start
    return torch.zeros_like(real).index_put((order,), rank < most).view(shape)
