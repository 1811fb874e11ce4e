"""A score of each token, by a router or untrained, and the choice of a sequence's best by it."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers import initialization as init

from depthlab.errors import UserError
from depthlab.models.halting.rule import Look, Tokens, Unit

RouteScore = Literal["router", "change", "rarity", "both"]
"""Learnt; or without training: |s - h| / |h|, how far an iteration has moved a token; log(1 + its piece's number), as
vocabularies list frequent pieces first; or the product of the two."""


class Router(Unit):
    """A token's score, w . [h, s] + b, of its states before and after an iteration.

    Computed in fp32 at least, under any autocast: scores are compared with each other. Its names are none of a halting
    unit's, so that a checkpoint with the one loads with the other, which is new then.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.score_weight = nn.Parameter(torch.empty(1, 2 * hidden_size))
        self.score_bias = nn.Parameter(torch.empty(1))

    def initialise(self, config: PreTrainedConfig) -> None:
        """All scores are 0."""
        init.zeros_(self.score_weight)
        init.zeros_(self.score_bias)

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


def rarity(kind: RouteScore, tokens: Tokens) -> Tensor:
    """Of each token's piece, [...] fp32, where the score asks for it; else 1.

    Raises:
        UserError: the model was given embeddings.
    """
    if kind in ("router", "change"):
        return torch.ones_like(tokens.position, dtype=torch.float32)
    if tokens.pieces is None:
        raise UserError(f"a score of {kind} reads input_ids, and the model was given embeddings")
    return tokens.pieces.float().log1p()


def score(kind: RouteScore, look: Look, rarity: Tensor) -> Tensor:
    """[...]: the larger, the sooner a token goes on."""
    if kind in ("router", "rarity"):
        return rarity if look.asked is None else look.asked
    return rarity * (look.new - look.before).float().norm(dim=-1) / look.before.float().norm(dim=-1)


def gate(look: Look) -> Tensor:
    """The router's probability, sigmoid(score), [...]; 1 without one."""
    if look.asked is None:
        return torch.ones_like(look.new[..., 0], dtype=torch.promote_types(look.new.dtype, torch.float32))
    return torch.sigmoid(look.asked)


def straight_through(gate: Tensor) -> Tensor:
    """1, and backward the gate."""
    return 1 + gate - gate.detach()


def how_many(tokens: Tensor, share: float) -> Tensor:
    """A share of tokens, in whole ones: at least one, unless it is 0."""
    return (tokens * share).round().clamp(min=int(share > 0))


def sizes(sequence: Tensor, among: Tensor) -> Tensor:
    """[...] int64, for each token how many of its sequence are among those meant, [...] bool; sequences ascend."""
    rows, seen = sequence.flatten(), F.pad(among.flatten().cumsum(0), (1, 0))
    start, end = (torch.searchsorted(rows, rows, right=right) for right in (False, True))
    return (seen[end] - seen[start]).view_as(sequence)


def best(scores: Tensor, sequence: Tensor, among: Tensor, most: Tensor) -> Tensor:
    """[...] bool: of each sequence, among the tokens meant, those of the highest scores; among equals the earlier.

    Args:
        scores: [...]
        sequence: [...] int64, each token's; ascending.
        among: [...] bool, the tokens meant.
        most: [...], for each token how many of its sequence.
    """
    shape = scores.shape
    scores, sequence, among = (one.detach().flatten() for one in (scores, sequence, among))
    order = torch.where(among, scores, -torch.inf).argsort(descending=True, stable=True)
    order = order[sequence[order].argsort(stable=True)]  # sequence by sequence, the best first
    ordered = sequence[order]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(ordered, ordered)
    return torch.zeros_like(among).index_put((order,), rank < most.flatten()[order]).view(shape)
