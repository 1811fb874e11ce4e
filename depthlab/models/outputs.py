"""What leaves the base model; and what heads read of it: the end, or in training what every iteration has left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from depthlab.models.halting import HaltingRule, Tokens


class Exit(NamedTuple):
    """States that a head may read, and how much a loss counts there."""

    states: Tensor
    """[B, T, H]"""
    pooled: Tensor | None
    """[B, H], of the first token of each sequence; None without a pooler."""
    token_weights: Tensor | None = None
    """[B, T] fp32; None: 1 everywhere."""
    sequence_weights: Tensor | None = None
    """[B] fp32"""


@dataclass
class DepthFields:
    """What the halting did; N_t and R_t as in Graves 2016, section 2. Every output ends in these."""

    depths: Tensor | None = None
    """N_t, [B, T] int64; 0 on padding."""
    remainders: Tensor | None = None
    """R_t, [B, T] fp32; 0 on padding, at a truncated cap, and with halting="fixed"."""
    ponder_cost: Tensor | None = None
    """[B]: sum over the real tokens of N_t + R_t, differentiable through R_t; or of what the rule charges instead."""


@dataclass
class AdaptiveAlbertOutput(DepthFields, BaseModelOutputWithPooling):
    """Of the base model."""

    exits: tuple[Exit, ...] | None = None
    """L, in training by a rule that learns everywhere."""


def exits_of(
    rule: HaltingRule,
    unit: nn.Module | None,
    hidden_states: Sequence[Tensor],
    real: Tensor,
    of_first: Callable[[Tensor], Tensor],
    pool: Callable[[Tensor], Tensor | None],
) -> tuple[tuple[Exit, ...], Tensor | None]:
    """Of a rule that learns everywhere, in training.

    Args:
        rule: the rule.
        unit: what it learns.
        hidden_states: h^0..h^L.
        real: [B, T] bool, False on padding.
        of_first: takes what [B, T, ...] says of the first token of each sequence, [B, ...].
        pool: the pooler, of states [B, T, H].

    Returns:
        exits: L, after every iteration.
        costs: [B, T], what tokens are charged in place of N + R; None: just that.
    """
    start, *states = hidden_states
    position = torch.arange(real.numel(), device=real.device).view_as(real)
    weights, costs = rule.weigh(unit, Tokens(start, position, real.shape[1], real), states)
    exits = (Exit(one, pool(one), weight, of_first(weight)) for one, weight in zip(states, weights, strict=True))
    return tuple(exits), costs
