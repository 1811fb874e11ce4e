"""Least squares with clustered errors, against fits without each cluster; p values."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from depthlab.analysis.regression import clustered_least_squares, p_values
from depthlab.metrics.intervals import t_quantile


def test_clustered_least_squares_leaves_clusters_out():
    """The same as fits without each of them, by sklearn; the last column is of one cluster only."""
    number = np.arange(24)
    cluster = number // 4
    design = np.column_stack([number % 3 == k for k in range(3)] + [np.sqrt(number), number == 17]).astype(float)
    outcome = np.cos(number * 1.7) + 0.3 * number + np.sin(cluster * 2.0)
    fit = clustered_least_squares(design, outcome, cluster)
    model = LinearRegression(fit_intercept=False).fit(design, outcome)
    np.testing.assert_allclose(fit.coefficients, model.coef_)
    assert fit.r_squared == pytest.approx(model.score(design, outcome))
    without = [
        LinearRegression(fit_intercept=False).fit(design[rest], outcome[rest]).coef_ for rest in leave_out(cluster)
    ]
    np.testing.assert_allclose(fit.influence[:, :4], np.sqrt(5 / 6) * (model.coef_ - without)[:, :4], atol=1e-9)


def leave_out(cluster):
    return [cluster != number for number in range(cluster.max() + 1)]


@pytest.mark.full
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
