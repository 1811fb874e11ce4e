"""How sure mean depths are: 95 % intervals from resampling documents or sentences, whose tokens are not independent."""

import numpy as np
from torch import Tensor

from depthlab.kinds import POOLS

RESAMPLES = 2000
BLOCK = 100
"""Resamples that are computed at once: all of them would need much memory where there are many clusters."""


def depth_intervals(iterations: Tensor, tokens: Tensor) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the mean depth of every pool of kinds, by its name, from the bootstrap over documents.

    Pools that occur in fewer than two documents are left out.

    Args:
        iterations: [D, kinds] integer, as :class:`GroupDepthMetric` computes them.
        tokens: [D, kinds] integer.
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
