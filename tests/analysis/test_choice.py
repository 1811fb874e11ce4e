"""The choice of the configuration, against the same in plain Python."""

from itertools import product
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.analysis.choice import choose, epochs_table
from depthlab.analysis.records import RunRecord


def record(name, task, learning_rate, batch_size, seed, scores, first_epoch=1):
    epochs = [{"epoch": first_epoch + n, "step": n, "val/score": score} for n, score in enumerate(scores)]
    return RunRecord(
        Path(name), "glue", task, "accuracy", {}, {}, learning_rate, batch_size, seed, epochs, {}, 1, 1, {}
    )


def chosen(runs, models=None):
    return choose(epochs_table(runs, models or ["model"] * len(runs)))


@st.composite
def grids(draw):
    """Runs of two models and tasks, some missing; scores are few and exact, so that there are equals."""
    runs, models = [], []
    for model, task, rate, batch, seed in product("ab", ("rte", "cola"), (1e-5, 5e-5), (16, 32), range(3)):
        scores = draw(st.lists(st.integers(0, 8).map(lambda n: n / 8), max_size=4))
        if scores:
            runs.append(record(f"{model}/{len(runs)}", task, rate, batch, seed, scores))
            models.append(model)
    return runs, models


@settings(max_examples=15)
@given(grids())
def test_the_choice(grid):
    runs, models = grid
    if not runs:
        return
    table = chosen(runs, models)
    groups = {}
    for run, model in zip(runs, models, strict=True):
        for epoch in run.epochs:
            configuration = (epoch["epoch"], run.learning_rate, run.batch_size)
            by_seed = groups.setdefault((model, run.task), {}).setdefault(configuration, {})
            by_seed[run.seed] = (100 * epoch["val/score"], str(run.directory))
    for (model, task), configurations in groups.items():
        late = {c: seeds for c, seeds in configurations.items() if c[0] >= 2}
        configurations = late or configurations
        most = max(map(len, configurations.values()))
        complete = {c: seeds for c, seeds in configurations.items() if len(seeds) == most}
        best = min(complete, key=lambda c: (-mean(score for score, _ in complete[c].values()), *c))
        found = table[(table.model == model) & (table.task == task)]
        assert {(row.epoch, row.learning_rate, row.batch_size) for row in found.itertuples()} == {best}
        assert {row.seed: (row.score, row.run) for row in found.itertuples()} == complete[best]
        assert set(found.tried) == {len(complete)}
        assert set(found.incomplete) == {len(configurations) - len(complete)}
    assert len(table.groupby(["model", "task"])) == len(groups)


def test_the_mean_over_seeds_decides_not_the_best_seed():
    runs = [record("a", "rte", 1e-5, 16, 0, [0, 0.9]), record("b", "rte", 1e-5, 16, 1, [0, 0.1])]
    runs += [record(f"c{seed}", "rte", 2e-5, 16, seed, [0, 0.6]) for seed in range(2)]
    assert set(chosen(runs).learning_rate) == {2e-5}


def test_few_lucky_seeds_do_not_compete():
    runs = [record("a", "rte", 1e-5, 16, 0, [0, 0.99])]
    runs += [record(f"c{seed}", "rte", 2e-5, 16, seed, [0, 0.6]) for seed in range(2)]
    table = chosen(runs)
    assert set(table.learning_rate) == {2e-5} and set(table.tried) == {1} and set(table.incomplete) == {1}


@pytest.mark.parametrize(
    ("first", "scores", "expected"),
    [
        (1, [0.9, 0.5, 0.6], 3),  # whole epochs from the second on
        (0.5, [0.9, 0.5], 0.5),  # none of these: all there are
        (1.5, [0.9, 0.8, 0.5], 1.5),
        (1, [0.4], 1),
    ],
)
def test_epochs_that_count(first, scores, expected):
    assert set(chosen([record("a", "rte", 1e-5, 16, 0, scores, first)]).epoch) == {expected}


def test_a_run_that_diverged_is_not_chosen():
    runs = [record("a", "stsb", 1e-5, 16, 0, [0, float("nan")]), record("b", "stsb", 1e-5, 16, 1, [0, 0.9])]
    runs += [record(f"c{seed}", "stsb", 2e-5, 16, seed, [0, 0.1]) for seed in range(2)]
    assert set(chosen(runs).learning_rate) == {2e-5}
