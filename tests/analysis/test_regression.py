"""Least squares with clustered errors, against statsmodels; intervals of ratios, against their definition."""

import numpy as np
import pandas as pd
import pytest

from depthlab.analysis.regression import QUANTILE, clustered_least_squares, ratio_interval


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


def test_the_interval_of_a_ratio_holds_what_is_not_refuted():
    """Ratio q is in it where above - q * below is not significantly different from 0."""
    above, below, variances = (1.2, 0.3, -2.0), (2.0, -1.5, 0.5), ((0.1, 0.2, 0.05), (0.3, 0.1, 0.2), (0.06, -0.1, 0))
    low, high = ratio_interval(pd.Series(above), pd.Series(below), *map(np.array, variances))
    ratios = np.linspace(-5, 5, 100_001)
    for number in range(2):
        v_above, v_below, covariance = (values[number] for values in variances)
        spread = np.sqrt(v_above - 2 * ratios * covariance + ratios**2 * v_below)
        inside = ratios[np.abs(above[number] - ratios * below[number]) <= QUANTILE * spread]
        assert (low[number], high[number]) == pytest.approx((inside.min(), inside.max()), abs=2e-4)
    assert np.isnan([low[2], high[2]]).all()  # 0.5, with a standard error of 0.45
