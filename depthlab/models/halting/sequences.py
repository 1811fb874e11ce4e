"""Which tokens begin a sequence, and what holds of all its tokens because it holds of that one."""

import torch
from torch import Tensor

from depthlab.models.halting.rule import Tokens


def leaders(tokens: Tokens) -> Tensor:
    """[...] bool: the first real token of each sequence."""
    sequence, real = tokens.sequence.flatten(), tokens.real.flatten()
    earlier = real.cumsum(0) - real.long()  # real tokens before each
    return (real & (earlier == earlier[torch.searchsorted(sequence, sequence)])).view_as(tokens.real)


def of_leader(leads: Tensor, values: Tensor) -> Tensor:
    """[..., *] for every token that of its sequence's first, of which values [S, *] are; 0 on padding before them."""
    sequence = leads.flatten().cumsum(0).view_as(leads)  # from 1 on
    return torch.cat([values.new_zeros(1, *values.shape[1:]), values])[sequence]
