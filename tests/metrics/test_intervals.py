"""Depths by group and their bootstrap intervals, against counting one by one and against scipy's bootstrap."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, t

from depthlab.kinds import POOLS, TokenKind
from depthlab.metrics import GroupDepthMetric, bootstrap_intervals, depth_intervals, mean_depth_by_group
from depthlab.metrics.intervals import t_quantile
from tests.metrics.test_depth import random_batch

DOCUMENTS = 4


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), cut=st.integers(0, 6))
def test_counts_equal_counting_one_by_one(seed, cut):
    depths, kinds = random_batch(seed)
    document = torch.as_tensor(np.random.default_rng(seed).integers(0, DOCUMENTS, len(depths)))
    metric = GroupDepthMetric(DOCUMENTS)
    for part in zip(*(whole.split([cut, 6 - cut]) for whole in (depths, document[:, None], kinds)), strict=True):
        metric.update(*part)
    expected = np.zeros((2, DOCUMENTS, len(TokenKind)), dtype=int)
    for row, number in enumerate(document.tolist()):
        for depth, kind in zip(depths[row].tolist(), kinds[row].tolist(), strict=True):
            if kind != TokenKind.PAD:
                expected[:, number, kind] += (depth, 1)
    np.testing.assert_array_equal(torch.stack(metric.compute()).numpy(), expected)
    with np.errstate(invalid="ignore"):
        means = np.divide(*expected.sum(axis=2))
    np.testing.assert_allclose(mean_depth_by_group(*metric.compute()), means, rtol=1e-6)


def test_intervals_agree_with_scipy():
    """The two draw differently, so they agree within the noise of 2,000 resamples: a fifteenth of the width."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 200, (60, len(TokenKind)))
    iterations = (tokens * rng.uniform(1, 6, (60, 1))).astype(int)
    for name, (low, high) in depth_intervals(torch.as_tensor(iterations), torch.as_tensor(tokens)).items():
        pool = list(POOLS[name])
        counted, seen = iterations[:, pool].sum(axis=1), tokens[:, pool].sum(axis=1)
        wanted = bootstrap(
            (counted, seen),
            lambda a, b, axis=-1: a.sum(axis) / b.sum(axis),
            paired=True,
            vectorized=True,
            n_resamples=20000,
            method="percentile",
            confidence_level=1 - 2 * norm.cdf(-np.sqrt(60 / 59) * t.ppf(0.975, 59)),
            rng=rng,
        ).confidence_interval
        assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=(wanted.high - wanted.low) / 15)


def test_documents_that_agree_leave_no_doubt():
    tokens = torch.randint(1, 50, (10, len(TokenKind)))
    assert all(bounds == (3.0, 3.0) for bounds in depth_intervals(3 * tokens, tokens).values())


def test_pools_of_few_documents_have_no_interval():
    tokens = torch.zeros(10, len(TokenKind), dtype=torch.long)
    tokens[:9, TokenKind.CLS] = 5
    tokens[:, TokenKind.PLAIN] = 7
    assert set(depth_intervals(2 * tokens, tokens)) == {"all", "unmasked", "plain"}


@pytest.mark.parametrize("documents", [14, 60])
def test_intervals_cover_the_mean(documents):
    """In 80 data sets of documents with effects of their own, 10 groups each: 95 % of the intervals, about."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(80):
        counts = rng.integers(1, 5, (documents, 10))
        sums = rng.normal(5 * counts + counts * rng.normal(0, 1, (documents, 10)), np.sqrt(counts))
        low, high = bootstrap_intervals(sums, counts).T
        covered.extend((low < 5) & (high > 5))
    assert np.mean(covered) == pytest.approx(0.945, abs=0.02)


def test_a_group_of_few_clusters_has_no_interval():
    counts = np.array([[1, 4, 0]] * 9 + [[1, 0, 0]])
    assert np.isnan(bootstrap_intervals(2 * counts, counts)).all(axis=1).tolist() == [False, True, True]


def test_quantiles_of_t():
    degrees = np.array([8, 9, 20, 318])
    np.testing.assert_allclose(t_quantile(degrees), [np.nan, *t.ppf(0.975, degrees[1:])], atol=3e-4)


def test_sources_are_resampled_apart():
    """Two sources that differ, within which documents do not: their shares of the tokens are no chance."""
    tokens = torch.randint(1, 50, (24, len(TokenKind)))
    depths = torch.tensor([2] * 12 + [5] * 12)[:, None]
    sources = np.repeat([0, 1], 12)
    equal = torch.full_like(tokens, 7)
    assert all(bounds == (3.5, 3.5) for bounds in depth_intervals(depths * equal, equal, sources).values())
    assert all(low < 3.4 and high > 3.6 for low, high in depth_intervals(depths * equal, equal).values())
    assert not depth_intervals(depths * tokens, tokens, np.arange(24) // 15)  # nine of the second are too few
