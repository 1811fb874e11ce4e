"""Least squares with standard errors for observations that come in clusters.

In NumPy rather than statsmodels, which does not give what each cluster contributes: contrasts of coefficients and their
covariances, also between two regressions, are sums over that.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from depthlab.metrics.intervals import FEWEST_CLUSTERS

RANK = 1e-11
"""Eigenvalues of products of columns, relative to the largest, that are 0 but for rounding."""


class Fit(NamedTuple):
    """A regression."""

    coefficients: np.ndarray
    """[P]"""
    influence: np.ndarray
    """[C, P], of each cluster on the coefficients. Their covariance is `influence.T @ influence`; that with those of
    another regression over the same clusters, likewise."""
    residuals: np.ndarray
    """[N]"""
    r_squared: float


def clustered_least_squares(design: np.ndarray, outcome: np.ndarray, cluster: np.ndarray) -> Fit:
    """Ordinary least squares, with the jackknife's covariance for clusters.

    A cluster's influence is how the coefficients change when it is left out, times the root of (C - 1) / C. With few
    clusters, or a few large ones, that is nearer to the truth than the sandwich estimator, which takes residuals for
    errors (CV3 of MacKinnon, Nielsen and Webb 2023, "Fast and reliable jackknife and bootstrap methods for
    cluster-robust inference"). A coefficient that can't be had without a cluster is 0 without it.

    Args:
        design: [N, P], of full rank, N over P; some combination of its columns is constant, which `r_squared` supposes.
        outcome: [N], not constant.
        cluster: [N] integer, 0 to C - 1, each of which occurs; two or more.
    """
    products = design.T @ design
    coefficients = np.linalg.solve(products, design.T @ outcome)
    residuals = outcome - design @ coefficients
    order = np.argsort(cluster, kind="stable")
    influence = []
    for rows in np.split(order, np.cumsum(np.bincount(cluster))[:-1]):
        part = design[rows]
        rest = np.linalg.pinv(products - part.T @ part, rcond=RANK, hermitian=True)
        influence.append(rest @ (part.T @ residuals[rows]))
    shrunk = np.sqrt(1 - 1 / len(influence))
    return Fit(coefficients, shrunk * np.array(influence), residuals, 1 - residuals.var() / outcome.var())


def p_values(estimates: pd.Series, errors: np.ndarray, degrees: pd.Series) -> pd.Series:
    """That estimates are 0, by the t distribution; nan below ten clusters.

    Args:
        estimates: [K]
        errors: [K], standard errors.
        degrees: [K], of freedom: clusters less one.
    """
    from scipy.special import stdtr

    return 2 * stdtr(degrees, -np.abs(estimates / errors)).where(degrees >= FEWEST_CLUSTERS - 1)
