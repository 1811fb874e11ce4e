"""Depths by group and their bootstrap intervals, against counting one by one and against scipy's bootstrap."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from depthlab.kinds import POOLS, TokenKind
from depthlab.metrics import GroupDepthMetric, bootstrap_intervals, depth_intervals, mean_depth_by_group
from tests.metrics.test_depth import random_batch

DOCUMENTS = 4


@settings(max_examples=20, deadline=None)
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
        ratio = lambda a, b, axis=-1: a.sum(axis) / b.sum(axis)  # noqa: E731
        how = {"paired": True, "vectorized": True, "n_resamples": 20000, "method": "percentile", "rng": rng}
        wanted = bootstrap((counted, seen), ratio, **how).confidence_interval
        assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=(wanted.high - wanted.low) / 15)


def test_documents_that_agree_leave_no_doubt():
    tokens = torch.randint(1, 50, (9, len(TokenKind)))
    assert all(bounds == (3.0, 3.0) for bounds in depth_intervals(3 * tokens, tokens).values())


def test_pools_of_one_document_have_no_interval():
    tokens = torch.zeros(3, len(TokenKind), dtype=torch.long)
    tokens[0, TokenKind.CLS] = 5
    tokens[:, TokenKind.PLAIN] = 7
    assert set(depth_intervals(2 * tokens, tokens)) == {"all", "unmasked", "plain"}


def test_intervals_cover_the_mean():
    """In 40 data sets of 60 sentences with effects of their own, 10 groups each: 95 % of the intervals, about.

    Percentiles of few clusters are a little too narrow: 93 % are expected, within four standard errors.
    """
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(40):
        counts = rng.integers(0, 4, (60, 10))
        sums = rng.normal(5 * counts + counts * rng.normal(0, 1, (60, 10)), np.sqrt(counts))
        low, high = bootstrap_intervals(sums, counts).T
        covered.extend((low < 5) & (high > 5))
    assert np.mean(covered) == pytest.approx(0.93, abs=4 * np.sqrt(0.93 * 0.07 / 400))


def test_a_group_of_one_cluster_has_no_interval():
    counts = np.array([[1, 4, 0], [1, 0, 0], [3, 0, 0]])
    assert np.isnan(bootstrap_intervals(2 * counts, counts)).all(axis=1).tolist() == [False, True, True]
