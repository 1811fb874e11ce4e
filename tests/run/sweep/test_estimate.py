"""The estimate of the time left, against closed forms."""

from itertools import product

import pytest

from depthlab.run.sweep.estimate import time_left

PER_TASK, PER_BATCH = {"rte": 60.0, "mnli": 6000.0}, {16: 1.5, 32: 1.0}


def cell(task, batch, seed=0):
    return {"task": task, "batch": batch, "seed": seed}


def seconds(task, batch):
    return PER_TASK[task] * PER_BATCH[batch]


def test_equal_runs_are_shared_out():
    finished = [(cell("rte", 16, seed), 30.0) for seed in range(3)]
    unfinished = [(cell("rte", 16, seed), 0.0) for seed in range(3, 10)]
    assert time_left(finished, unfinished, workers=2) == pytest.approx(7 * 30 / 2)


def test_running_cells_are_part_done_and_late_ones_due():
    finished = [(cell("rte", 16), 30.0)]
    assert time_left(finished, [(cell("rte", 16, 1), 10.0), (cell("rte", 16, 2), 99.0)], 2) == pytest.approx(20 / 2)


def test_values_multiply():
    """Each seed of each task and batch takes task x batch."""
    choices = list(product(PER_TASK, PER_BATCH))
    finished = [(cell(*choice), seconds(*choice)) for choice in choices]
    unfinished = [(cell(*choice, seed), 0.0) for choice in choices for seed in (1, 2)]
    assert time_left(finished, unfinished, 3) == pytest.approx(2 * sum(seconds(*choice) for choice in choices) / 3)


def test_a_missing_combination_is_inferred():
    finished = [(cell(*choice), seconds(*choice)) for choice in product(PER_TASK, PER_BATCH) if choice != ("mnli", 16)]
    assert time_left(finished, [(cell("mnli", 16), 0.0)], 1) == pytest.approx(seconds("mnli", 16), rel=0.35)


def test_what_was_never_seen_takes_the_mean():
    finished = [(cell("rte", 32), 10.0), (cell("mnli", 32), 1000.0)]
    assert time_left(finished, [({"task": "cola"}, 0.0)], 1) == pytest.approx((10 * 1000) ** 0.5)


def test_nothing_is_known_or_left():
    assert time_left([], [(cell("rte", 16), 0.0)], 1) is None
    assert time_left([(cell("rte", 16), 1.0)], [], 1) == 0
