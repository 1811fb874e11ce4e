"""Least squares with standard errors for observations that come in clusters.

In NumPy rather than statsmodels, which does not give what each cluster contributes: contrasts of coefficients and their
covariances, also between two regressions, are sums over that.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from depthlab.metrics.intervals import FEWEST_CLUSTERS


class Fit(NamedTuple):
    """A regression."""

    coefficients: np.ndarray
    """[P]"""
    influence: np.ndarray
    """[C, P], of each cluster on the coefficients. Their covariance is `influence.T @ influence`; that with those of
    another regression over the same clusters, too."""
    residuals: np.ndarray
    """[N]"""
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
    products = design.T @ design
    coefficients = np.linalg.solve(products, design.T @ outcome)
    residuals = outcome - design @ coefficients
    scores = np.stack([np.bincount(cluster, column * residuals) for column in design.T], axis=1)
    correction = clusters / (clusters - 1) * (observations - 1) / (observations - columns)
    influence = np.sqrt(correction) * np.linalg.solve(products, scores.T).T
    return Fit(coefficients, influence, residuals, 1 - residuals.var() / outcome.var())


def p_values(estimates: pd.Series, errors: np.ndarray, degrees: pd.Series) -> pd.Series:
    """That estimates are 0, by the t distribution; nan below ten clusters.

    Args:
        estimates: [K]
        errors: [K], standard errors.
        degrees: [K], of freedom: clusters less one.
    """
    from scipy.special import stdtr

    return 2 * stdtr(degrees, -np.abs(estimates / errors)).where(degrees >= FEWEST_CLUSTERS - 1)
