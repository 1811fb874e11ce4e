"""Two gloo processes, with unequal shares of the data, compute what one process does."""

import pytest
import torch

from depthlab.metrics import DepthMetric, FixedPointMetric, PretrainingMetrics, TokenRecords
from depthlab.metrics.glue import GlueMetrics
from tests.support import by_two_processes

from .test_depth import MAX_DEPTH, random_batch
from .test_glue import REGRESSION, examples
from .test_pretraining import VOCABULARY, random_sequences, to_floats, update

SEEDS_OF_RANK = [[0, 1, 2], [3]]


def measure(seeds):
    depth, pretraining = DepthMetric(MAX_DEPTH), PretrainingMetrics(VOCABULARY)
    fixed_point, records = FixedPointMetric(MAX_DEPTH), TokenRecords()
    for seed in seeds:
        depth.update(*random_batch(seed))
        update(pretraining, **random_sequences(seed, sequences=seed + 2))
        add_iteration(fixed_point, seed)
        depths = random_batch(seed)[0]
        records.update(torch.arange(len(depths)) + 100 * seed, depths, depths / 7, depths / 3)
    tensors = fixed_point.compute() | records.compute()
    for names in (("f1", "accuracy"), ("matthews_corrcoef",), REGRESSION):
        glue = GlueMetrics(names, names == REGRESSION)
        for seed in seeds:
            logits, labels = examples(seed, 21, is_regression=names == REGRESSION)
            glue.update(logits, labels, torch.arange(21) + 100 * seed)
        logits, labels = examples(0, 21, is_regression=names == REGRESSION)
        glue.update(logits[:4], labels[:4], torch.arange(4))  # what fills up the last batch of every rank
        tensors |= {f"{names} {name}": value for name, value in glue.compute().items()}
    return depth.compute(), to_floats(pretraining.compute()), tensors


def add_iteration(fixed_point, seed):
    torch.manual_seed(seed)
    kinds, states = torch.randint(6, (9 + seed,)), torch.randn(3, 9 + seed, 4)
    fixed_point.update(1 + seed % MAX_DEPTH, kinds, *states)


def measure_on(rank):
    return measure(SEEDS_OF_RANK[rank])


def test_two_processes_equal_one(tmp_path):
    ranks = by_two_processes(measure_on, tmp_path)
    counts, means, fixed_point = measure([seed for seeds in SEEDS_OF_RANK for seed in seeds])
    for rank_counts, rank_means, rank_fixed_point in ranks:
        assert torch.equal(rank_counts, counts)
        assert rank_means == pytest.approx(means, rel=1e-9)
        torch.testing.assert_close(rank_fixed_point, fixed_point, rtol=1e-9, atol=0, equal_nan=True)
