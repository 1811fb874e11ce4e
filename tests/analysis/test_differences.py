"""Differences of paired seeds, against SciPy's paired t test."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t, ttest_rel

from depthlab.analysis.differences import FEWEST_SEEDS, T_OF_FEW, paired_differences


def scores(**by_model):
    """Of one task; a model's from seed 0 on."""
    rows = [(model, "rte", seed, score) for model, found in by_model.items() for seed, score in enumerate(found)]
    return pd.DataFrame(rows, columns=["model", "task", "seed", "score"])


@pytest.mark.parametrize("seeds", [3, 5, 9, 10, 14])
def test_the_interval_is_that_of_the_paired_t_test(seeds):
    draw = np.random.default_rng(seeds)
    shared = draw.normal(50, 10, seeds)
    ours, other = shared + draw.normal(1, 1, seeds), shared + draw.normal(0, 1, seeds)
    frame = scores(ours=ours, other=other).sample(frac=1, random_state=0)  # the order of the runs says nothing
    (row,) = paired_differences(frame, ["other"]).itertuples()
    expected = ttest_rel(ours, other).confidence_interval()
    assert (row.task, row.model, row.reference, row.seeds) == ("rte", "ours", "other", seeds)
    assert row.difference == pytest.approx((ours - other).mean())
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_quantiles_of_few_seeds():
    expected = t.ppf(0.975, np.arange(FEWEST_SEEDS, 10) - 1)
    np.testing.assert_allclose(T_OF_FEW, expected, atol=5e-5)


def test_only_seeds_that_both_have_count():
    frame = scores(ours=[10.0, 20.0, 90.0], other=[8.0, 17.0], third=[0.0])
    found = paired_differences(frame, ["other", "third"])
    assert found[["model", "reference", "seeds", "difference"]].values.tolist() == [
        ["ours", "other", 2, 2.5],
        ["ours", "third", 1, 10.0],
    ]
    assert found[["low", "high"]].isna().all(axis=None), "two seeds have no interval"


def test_one_that_has_diverged_is_not_left_out():
    frame = scores(ours=[10.0, 20.0, np.nan, 30.0], other=[8.0, 17.0, 5.0, 6.0])
    (row,) = paired_differences(frame, ["other"]).itertuples()
    assert row.seeds == 4 and np.isnan([row.difference, row.low, row.high]).all()
