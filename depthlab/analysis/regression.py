"""Least squares with standard errors for observations that come in clusters, and intervals of ratios of its results.

In NumPy rather than statsmodels, which has no covariance between the coefficients of two regressions: what is left of
an effect in the second of them needs it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

QUANTILE = 1.959964
"""Of the normal distribution, for 95 % intervals."""


class Fit(NamedTuple):
    """A regression."""

    coefficients: np.ndarray
    """[P]"""
    influence: np.ndarray
    """[C, P], of each cluster on the coefficients. Their covariance is `influence.T @ influence`; that with those of
    another regression over the same clusters, too."""
    r_squared: float


def clustered_least_squares(design: np.ndarray, outcome: np.ndarray, cluster: np.ndarray) -> Fit:
    """Ordinary least squares, with the sandwich estimator of the covariance for clusters (Liang and Zeger 1986).

    With Stata's and statsmodels' correction for few clusters, C / (C - 1) * (N - 1) / (N - P).

    Args:
        design: [N, P], of full rank, N over P; some combination of its columns is constant, which `r_squared` supposes.
        outcome: [N], not constant.
        cluster: [N] integer, 0 to C - 1, each of which occurs; two or more.
    """
    observations, columns = design.shape
    clusters = cluster.max() + 1
    q, r = np.linalg.qr(design)
    coefficients = np.linalg.solve(r, q.T @ outcome)
    residuals = outcome - design @ coefficients
    scores = np.stack([np.bincount(cluster, column * residuals) for column in q.T], axis=1)
    correction = clusters / (clusters - 1) * (observations - 1) / (observations - columns)
    influence = np.sqrt(correction) * np.linalg.solve(r, scores.T).T
    return Fit(coefficients, influence, 1 - residuals.var() / outcome.var())


def ratio_interval(
    above: pd.Series, below: pd.Series, above_variance: np.ndarray, below_variance: np.ndarray, covariance: np.ndarray
) -> tuple[pd.Series, pd.Series]:
    """The 95 % interval of a ratio of two estimates that are jointly normal (Fieller 1954).

    It is bounded where the estimate below is significantly not 0; elsewhere it is nan.

    Args:
        above: [K], estimates.
        below: [K]
        above_variance: [K], of the estimates.
        below_variance: [K]
        covariance: [K]

    Returns:
        Lower and upper bound, [K].
    """
    square = QUANTILE**2
    a = below**2 - square * below_variance
    a = a.where(a > 0)
    b = above * below - square * covariance
    c = above**2 - square * above_variance
    root = np.sqrt((b**2 - a * c).clip(lower=0))  # negative by rounding only
    return (b - root) / a, (b + root) / a
