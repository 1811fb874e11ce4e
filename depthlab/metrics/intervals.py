"""How sure mean depths are: 95 % intervals from resampling documents or sentences, whose tokens are not independent."""

from statistics import NormalDist

import numpy as np
from torch import Tensor

from depthlab.kinds import POOLS

FEWEST_CLUSTERS = 10
"""With fewer there is no interval: none that we know holds what it says."""
RESAMPLES = 2000
BLOCK = 100
"""Resamples that are computed at once: all of them would need much memory where there are many clusters."""


def depth_intervals(iterations: Tensor, tokens: Tensor) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the mean depth of every pool of kinds, from the bootstrap over documents.

    Args:
        iterations: [D, kinds] integer, as :class:`depthlab.metrics.GroupDepthMetric` computes them.
        tokens: [D, kinds] integer.

    Returns:
        Lower and upper bound by the names in :data:`depthlab.kinds.POOLS`; pools that occur in fewer than
        FEWEST_CLUSTERS documents are left out.
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
    those in which a group does not occur are left out for it. Since the percentiles of few clusters are too narrow,
    those are taken that make up for it: normal quantiles become those of t, and the variance that of a sample
    (Hesterberg 2015, "What teachers should know about the bootstrap", section 4.1.2, "expanded percentiles").

    Args:
        sums: [C, G], of the values of each group in each cluster: a document or a sentence.
        counts: [C, G], how many they are.

    Returns:
        [G, 2], lower and upper bound of each group's mean; nan for a group in fewer than FEWEST_CLUSTERS.
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
    occurs = np.count_nonzero(counts, axis=0)
    for group in np.flatnonzero(occurs >= FEWEST_CLUSTERS):
        drawn = seen[:, group] > 0
        reach = np.sqrt(occurs[group] / (occurs[group] - 1)) * t_quantile(occurs[group] - 1)
        tail = NormalDist().cdf(-reach)
        intervals[group] = np.quantile(totals[drawn, group] / seen[drawn, group], [tail, 1 - tail])
    return intervals


def t_quantile(degrees: np.ndarray | int) -> np.ndarray:
    """The quantile 0.975 of the t distribution, for 95 % intervals; nan below ten clusters.

    By its expansion around the normal distribution's (Abramowitz and Stegun 1964, 26.7.5), to 0.0002 from 9 on.

    Args:
        degrees: [...] of freedom: clusters less one.
    """
    z, v = NormalDist().inv_cdf(0.975), np.where(np.less(degrees, FEWEST_CLUSTERS - 1), np.nan, degrees)
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / v**power for power, term in enumerate(terms, 1))
