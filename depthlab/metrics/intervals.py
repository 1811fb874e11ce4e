"""How sure mean depths are: 95 % intervals from resampling documents or sentences, whose tokens are not independent."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from depthlab.kinds import POOLS, TokenKind

RESAMPLES = 2000
BLOCK = 100
"""Resamples that are computed at once: all of them would need much memory where there are many clusters."""


class DocumentDepthMetric(Metric):
    """Iterations and tokens of each kind in each document, over everything seen since the last reset, on all ranks.

    Args:
        documents: D, how many documents there are.
    """

    full_state_update = False
    is_differentiable = False
    iterations: Tensor
    tokens: Tensor

    def __init__(self, documents: int) -> None:
        super().__init__()
        for state in ("iterations", "tokens"):
            zeros = torch.zeros(documents, len(TokenKind), dtype=torch.int64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(self, depths: Tensor, kinds: Tensor, document: Tensor) -> None:
        """Add one batch.

        Args:
            depths: [B, T] integer, N_t: iterations of each token, 0 on padding.
            kinds: [B, T] integer, the :class:`TokenKind` of each token.
            document: [B] integer, 0 to D - 1: where each sequence comes from.
        """
        where = (document[:, None].expand_as(kinds), kinds)
        self.iterations = self.iterations.index_put(where, depths.long(), accumulate=True)
        self.tokens = self.tokens.index_put(where, (depths > 0).long(), accumulate=True)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Iterations and tokens, each [D, kinds] int64."""
        return self.iterations, self.tokens


def depth_intervals(iterations: Tensor, tokens: Tensor) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the mean depth of every pool of kinds, from the bootstrap over documents.

    Args:
        iterations: [D, kinds] integer, as :class:`DocumentDepthMetric` computes them.
        tokens: [D, kinds] integer.

    Returns:
        Lower and upper bound by the names in :data:`depthlab.kinds.POOLS`; pools that occur in fewer than two documents
        are left out.
    """
    sums, counts = (
        np.stack([values.cpu().numpy()[:, list(pool)].sum(axis=1) for pool in POOLS.values()], axis=1)
        for values in (iterations, tokens)
    )
    bounds = zip(POOLS, bootstrap_intervals(sums, counts).tolist(), strict=True)
    return {name: (low, high) for name, (low, high) in bounds if low == low}


def bootstrap_intervals(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The 95 % intervals of means over tokens: percentiles of the bootstrap over clusters of tokens.

    A resample has as many clusters as there are, drawn with replacement (Efron and Tibshirani 1993, chapters 8 and 13);
    those in which a group does not occur are left out for it.

    Args:
        sums: [C, G], of the values of each group in each cluster: a document or a sentence.
        counts: [C, G], how many they are.

    Returns:
        [G, 2], lower and upper bound of each group's mean; nan for a group in fewer than two clusters.
    """
    clusters = len(sums)
    sums, counts = sums.astype(float), counts.astype(float)  # for a fast product
    rng = np.random.default_rng(0)
    totals, seen = np.empty((2, RESAMPLES, sums.shape[1]))
    for first in range(0, RESAMPLES, BLOCK):
        block = slice(first, first + BLOCK)
        drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=BLOCK).astype(float)
        totals[block], seen[block] = drawn @ sums, drawn @ counts
    intervals = np.full((sums.shape[1], 2), np.nan)
    for group in np.flatnonzero(np.count_nonzero(counts, axis=0) > 1):
        drawn = seen[:, group] > 0
        intervals[group] = np.quantile(totals[drawn, group] / seen[drawn, group], [0.025, 0.975])
    return intervals
