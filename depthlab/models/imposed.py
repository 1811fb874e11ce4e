"""Depths decided from outside instead of by the halting unit: controls for whether it matters *which* token halts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from depthlab.models.encoder import AdaptiveAlbertTransformer
from depthlab.models.halting.act import HaltingUnit

BELOW = 0.999
"""Share of the way to the threshold that a token which is to go on can reach: far enough from it for any rounding."""


@contextmanager
def imposed_depths(encoder: AdaptiveAlbertTransformer, depths: Tensor) -> Iterator[None]:
    """Within it, every token of the next batch takes as many iterations as is said here.

    The halting unit still gives the weights of a token's iterations: its probabilities, kept below the threshold until
    the last one, which has the remainder, also at a truncated cap.

    Args:
        encoder: of halting="act".
        depths: [B, T] integer, 1 to L; 0 on padding.
    """
    unit = encoder.halting
    encoder.halting = _ImposedHalting(unit, depths, encoder.config.act_epsilon)
    try:
        yield
    finally:
        encoder.halting = unit


class _ImposedHalting(nn.Module):
    """In place of the halting unit: it is asked once an iteration, of all tokens or of those that still run."""

    def __init__(self, unit: HaltingUnit, depths: Tensor, epsilon: float) -> None:
        super().__init__()
        self.unit, self.depths, self.threshold = unit, depths, 1 - epsilon
        self.n = 0
        self.accumulated: Tensor | None = None

    def forward(self, states: Tensor) -> Tensor:
        """[B, T, H] of the dense execution, or [R, H] of the R running tokens in row-major order; to [...]."""
        self.n += 1
        probability = self.unit(states)
        depths, accumulated = self.depths, self.accumulated
        if accumulated is None:
            accumulated = torch.zeros_like(depths, dtype=probability.dtype)
        running = depths >= self.n
        if states.ndim == 2:
            depths, accumulated = depths[running], accumulated[running]
        room = (self.threshold - accumulated).clamp(min=0)
        probability = torch.where(depths == self.n, 1.0, torch.minimum(probability, BELOW * room))
        total = accumulated + probability
        self.accumulated = total if states.ndim == 3 else self._scattered(running, total)
        return probability

    def _scattered(self, running: Tensor, total: Tensor) -> Tensor:
        return torch.zeros_like(self.depths, dtype=total.dtype).masked_scatter(running, total)
