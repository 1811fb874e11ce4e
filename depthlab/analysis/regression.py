"""Least squares with standard errors for observations that come in clusters.

In NumPy rather than statsmodels, which does not give what each cluster contributes: contrasts of coefficients and their
covariances, also between two regressions, are sums over that.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from depthlab.metrics.intervals import FEWEST_CLUSTERS

RANK = 1e-9
"""Share that a cluster must leave of a combination of columns, for a coefficient without it."""


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
    cluster-robust inference"). Of what can't be had without a cluster, the smallest
    change that fits is taken.

    Args:
        design: [N, P], of full rank, N over P; some combination of its columns is constant, which `r_squared` supposes.
        outcome: [N], not constant.
        cluster: [N] integer, 0 to C - 1, each of which occurs; two or more.
    """
    q, r = np.linalg.qr(design)
    coefficients = np.linalg.solve(r, q.T @ outcome)
    residuals = outcome - design @ coefficients
    order = np.argsort(cluster, kind="stable")
    change = []  # of the coefficients of q
    for rows in np.split(order, np.cumsum(np.bincount(cluster))[:-1]):
        change.append(without(q[rows]) @ (q[rows].T @ residuals[rows]))
    influence = np.sqrt(1 - 1 / len(change)) * np.linalg.solve(r, np.transpose(change)).T
    return Fit(coefficients, influence, residuals, 1 - residuals.var() / outcome.var())


def without(part: np.ndarray) -> np.ndarray:
    """The inverse [P, P] of the products of orthonormal columns, but for the rows [n, P] of a cluster."""
    return np.linalg.pinv(np.eye(part.shape[1]) - part.T @ part, rcond=RANK, hermitian=True)


def p_values(estimates: pd.Series, errors: np.ndarray, degrees: pd.Series) -> pd.Series:
    """That estimates are 0, by the t distribution; nan below ten clusters.

    Args:
        estimates: [K]
        errors: [K], standard errors.
        degrees: [K], of freedom: clusters less one.
    """
    from scipy.special import stdtr

    return 2 * stdtr(degrees, -np.abs(estimates / errors)).where(degrees >= FEWEST_CLUSTERS - 1)
