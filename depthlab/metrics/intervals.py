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


def depth_intervals(
    iterations: Tensor, tokens: Tensor, strata: np.ndarray | None = None
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of the mean depth of every pool of kinds, from the bootstrap over documents.

    Args:
        iterations: [D, kinds] integer, as :class:`depthlab.metrics.GroupDepthMetric` computes them.
        tokens: [D, kinds] integer.
        strata: [D], the source of each document, as :func:`bootstrap_intervals` takes it.

    Returns:
        Lower and upper bound by the names in :data:`depthlab.kinds.POOLS`; pools that occur in fewer than
        FEWEST_CLUSTERS documents of a source are left out.
    """
    sums, counts = (
        np.stack([values.cpu().numpy()[:, list(pool)].sum(axis=1) for pool in POOLS.values()], axis=1)
        for values in (iterations, tokens)
    )
    seen = counts.sum(axis=1) > 0
    strata = None if strata is None else strata[seen]
    bounds = zip(POOLS, bootstrap_intervals(sums[seen], counts[seen], strata).tolist(), strict=True)
    return {name: (low, high) for name, (low, high) in bounds if low == low}


def bootstrap_intervals(sums: np.ndarray, counts: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """The 95 % intervals of means over tokens: percentiles of the bootstrap over clusters of tokens.

    A resample has as many clusters as there are, drawn with replacement (Efron and Tibshirani 1993, chapters 8 and 13);
    those in which a group does not occur are left out for it. Since the percentiles of few clusters are too narrow,
    those are taken that make up for it: normal quantiles become those of t, and the variance that of a sample
    (Hesterberg 2015, "What teachers should know about the bootstrap", section 4.1.2, "expanded percentiles"), with as
    many clusters as there are in the stratum that has the fewest.

    Args:
        sums: [C, G], of the values of each group in each cluster: a document or a sentence.
        counts: [C, G], how many they are.
        strata: [C], the number of each cluster's stratum, a source of documents: a resample has as many of each. A few
            long documents of one among many short ones of another would be drawn by chance, or not at all.

    Returns:
        [G, 2], lower and upper bound of each group's mean; nan for a group in fewer than FEWEST_CLUSTERS of a stratum.
    """
    sums, counts = sums.astype(float), counts.astype(float)  # for a fast product
    strata = np.zeros(len(sums), int) if strata is None else strata
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    rng = np.random.default_rng(0)
    totals, seen = np.zeros((2, RESAMPLES, sums.shape[1]))
    for first in range(0, RESAMPLES, BLOCK):
        block = slice(first, first + BLOCK)
        for rows in members:
            drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=BLOCK).astype(float)
            totals[block] += drawn @ sums[rows]
            seen[block] += drawn @ counts[rows]
    intervals = np.full((sums.shape[1], 2), np.nan)
    fewest = np.array([np.count_nonzero(counts[rows], axis=0) for rows in members]).min(axis=0, initial=len(sums))
    for group in np.flatnonzero(fewest >= FEWEST_CLUSTERS):
        drawn = seen[:, group] > 0
        reach = np.sqrt(fewest[group] / (fewest[group] - 1)) * t_quantile(fewest[group] - 1)
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
