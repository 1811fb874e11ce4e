"""The halting rule of adaptive computation time (Graves 2016), as Simoulin & Crabbé (2021) use it.

Pure tensor code on any shape: both executions of the encoder call it, `dense` on [B, T] and `compact` on the [N] tokens
that still run.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ActCap = Literal["truncate", "remainder"]


class HaltingUnit(nn.Linear):
    """Halting probability of a token, sigmoid(w . s + b), from its new state s.

    Computed in fp32 at least, under any autocast: the sum of the probabilities is compared with a threshold.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, 1)

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] -> [...], in (0, 1)."""
        dtype = torch.promote_types(states.dtype, torch.float32)
        with torch.autocast(states.device.type, enabled=False):
            logits = F.linear(states.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return torch.sigmoid(logits.squeeze(-1))


class HaltingStep(NamedTuple):
    """What one iteration decides for tokens that entered it running. All [...], of the probabilities' shape."""

    weight: Tensor
    """lambda^n: p^n while the token goes on, R when it halts."""
    halted: Tensor
    """bool: whether this iteration n was the token's last, N = n."""
    remainder: Tensor
    """R where the token halted, 0 elsewhere and at a truncated cap."""


def halting_step(
    probability: Tensor, accumulated: Tensor, *, at_cap: bool, epsilon: float, act_cap: ActCap
) -> HaltingStep:
    """One step of adaptive computation time for running tokens.

    A token halts in the first iteration n with p^1 + ... + p^n > 1 - epsilon, and gives that iteration the remainder
    R = 1 - (p^1 + ... + p^{n-1}) as its weight. One that reaches the cap without halting gives its last iteration
    p^L ("truncate", the authors' code) or R ("remainder", Graves 2016).

    Args:
        probability: p^n, [...].
        accumulated: p^1 + ... + p^{n-1}, [...].
        at_cap: whether n = L, so that every token stops here.
        epsilon: the slack of the threshold.
        act_cap: what the last weight is at the cap.
    """
    crossed = accumulated + probability > 1 - epsilon
    halted = torch.ones_like(crossed) if at_cap else crossed
    takes_remainder = halted if act_cap == "remainder" else crossed
    remainder = 1 - accumulated
    return HaltingStep(
        weight=torch.where(takes_remainder, remainder, probability),
        halted=halted,
        remainder=torch.where(takes_remainder, remainder, 0.0),
    )
