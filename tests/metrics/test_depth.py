import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depthlab.kinds import POOLS, TokenKind
from depthlab.metrics import DepthMetric, mean_depths

MAX_DEPTH = 5


def random_batch(seed, sequences=6, length=9):
    """Depths and kinds, [sequences, length]; the last positions of each sequence are padding."""
    rng = np.random.default_rng(seed)
    depths = rng.integers(1, MAX_DEPTH + 1, (sequences, length))
    kinds = rng.integers(0, TokenKind.PAD, (sequences, length))
    padding = np.arange(length) >= rng.integers(1, length + 1, (sequences, 1))
    depths[padding], kinds[padding] = 0, TokenKind.PAD
    return torch.as_tensor(depths), torch.as_tensor(kinds)


def count_one_by_one(depths, kinds):
    counts = np.zeros((len(TokenKind), MAX_DEPTH + 1), dtype=int)
    for depth, kind in zip(depths.flatten().tolist(), kinds.flatten().tolist(), strict=True):
        if kind != TokenKind.PAD:
            counts[kind, depth] += 1
    return counts


@given(st.integers(0, 2**16), st.lists(st.integers(0, 6), max_size=3), st.sampled_from(["long", "byte"]))
def test_counts_and_means_do_not_depend_on_the_batches(seed, cuts, kind_type):
    depths, kinds = random_batch(seed)
    metric = DepthMetric(MAX_DEPTH)
    cuts = sorted(cuts)
    for part in zip(depths.tensor_split(cuts), getattr(kinds, kind_type)().tensor_split(cuts), strict=True):
        metric.update(*part)
    counts = metric.compute()
    assert counts.dtype == torch.int64
    np.testing.assert_array_equal(counts.numpy(), count_one_by_one(depths, kinds))

    means = mean_depths(counts)
    for name, pool in POOLS.items():
        chosen = depths.numpy()[np.isin(kinds.numpy(), pool)]
        assert (name in means) == (chosen.size > 0)
        if chosen.size:
            assert means[name] == pytest.approx(chosen.mean(), rel=1e-12)


def test_without_tokens_there_are_no_means():
    metric = DepthMetric(MAX_DEPTH)
    metric.update(torch.zeros(2, 3, dtype=torch.int64), torch.full((2, 3), TokenKind.PAD))
    assert metric.compute().sum() == 0
    assert mean_depths(metric.compute()) == {}


def test_reset_in_inference_mode_and_used_outside():
    metric = DepthMetric(MAX_DEPTH)
    with torch.inference_mode():
        metric.update(*random_batch(0))
        metric.reset()
    metric.update(*random_batch(1))
    np.testing.assert_array_equal(metric.compute().numpy(), count_one_by_one(*random_batch(1)))


def test_rejects():
    metric = DepthMetric(MAX_DEPTH)
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        metric.update(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(IndexError):  # not counted as depth 0 of the next kind
        metric.update(torch.tensor([[MAX_DEPTH + 1]]), torch.tensor([[0]]))
    with pytest.raises(ValueError, match="max_depth"):
        DepthMetric(0)
