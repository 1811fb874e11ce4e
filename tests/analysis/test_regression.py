"""Least squares with clustered errors, against statsmodels; p values."""

import numpy as np
import pandas as pd
import pytest

from depthlab.analysis.regression import clustered_least_squares, p_values
from depthlab.metrics.intervals import t_quantile


def test_clustered_least_squares_is_that_of_statsmodels():
    """OLS(outcome, design).fit(cov_type="cluster", cov_kwds={"groups": cluster}) of statsmodels 0.15.0."""
    number = np.arange(24)
    cluster = number // 4
    design = np.column_stack([number % 3 == k for k in range(3)] + [np.sqrt(number)]).astype(float)
    outcome = np.cos(number * 1.7) + 0.3 * number + np.sin(cluster * 2.0)
    fit = clustered_least_squares(design, outcome, cluster)
    covariance = [
        [0.63892544, 0.3873267, 0.32566839, -0.12311153],
        [0.3873267, 0.43691813, 0.2592537, -0.0914689],
        [0.32566839, 0.2592537, 0.31972355, -0.11696641],
        [-0.12311153, -0.0914689, -0.11696641, 0.0438123],
    ]
    np.testing.assert_allclose(fit.coefficients, [-1.21459286, -0.9998036, -1.71823814, 1.53895173], atol=1e-8)
    np.testing.assert_allclose(fit.influence.T @ fit.influence, covariance, atol=1e-8)
    assert fit.r_squared == pytest.approx(0.7477276717459129)


def test_the_covariance_of_two_regressions_is_that_of_repetitions():
    """Of the same coefficient with and without another column, over 400 outcomes with effects of clusters."""
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(60), 5)
    first = rng.normal(size=300)
    second = 0.8 * first + rng.normal(size=300) + rng.normal(size=60)[cluster]
    long = np.column_stack([np.ones(300), first, second])
    estimates, covariances = [], []
    for _ in range(400):
        outcome = first + rng.normal(size=60)[cluster] * (1 + second) + rng.normal(size=300)
        fits = [clustered_least_squares(design, outcome, cluster) for design in (long[:, :2], long)]
        estimates.append([fit.coefficients[1] for fit in fits])
        influence = np.column_stack([fit.influence[:, 1] for fit in fits])
        covariances.append(influence.T @ influence)
    np.testing.assert_allclose(np.mean(covariances, axis=0), np.cov(np.transpose(estimates)), rtol=0.2)


def test_p_values_are_those_of_intervals():
    """Of the same t; with fewer than ten clusters there is none."""
    degrees = pd.Series([9, 29, 300, 8])
    found = p_values(t_quantile(degrees) * 0.5, np.full(4, 0.5), degrees)
    np.testing.assert_allclose(found, [0.05, 0.05, 0.05, np.nan], atol=1e-4)
