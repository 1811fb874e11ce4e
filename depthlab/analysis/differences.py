"""How much better one model is than another, seed by seed: what the seeds share falls out of the difference."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from depthlab.metrics.intervals import FEWEST_CLUSTERS, t_quantile

FEWEST_SEEDS = 3
"""With two, an interval is six times as wide as from three, and says nothing."""
T_OF_FEW = (4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060)
"""Quantiles 0.975 of t, from FEWEST_SEEDS seeds up to nine; from ten on :func:`t_quantile` has them."""


def paired_differences(scores: pd.DataFrame, references: Sequence[str]) -> pd.DataFrame:
    """Scores of every other model less those of each reference, on the same task with the same seed.

    The interval is that of Student's paired t test: of chance in training (order, dropout, new weights), on the one set
    of examples that was scored.

    Args:
        scores: A row for each model, task and seed; columns model, task, seed and score.
        references: Names of models.

    Returns:
        A row for each task, model and reference that have a seed in common, in the order of `scores`: seeds, how many
        they share; difference, the mean over them, NaN where one has diverged; low and high, its 95 % interval, NaN for
        fewer than FEWEST_SEEDS.
    """
    is_reference = scores.model.isin(references)
    pairs = scores[~is_reference].merge(scores[is_reference], on=["task", "seed"], suffixes=("", "_reference"))
    pairs = pairs.rename(columns={"model_reference": "reference"})
    pairs["difference"] = pairs.score - pairs.score_reference
    by = pairs.groupby(["task", "model", "reference"], sort=False).difference
    mean, deviation = by.agg(lambda values: values.mean(skipna=False)), by.agg(lambda values: values.std(skipna=False))
    seeds = by.size()
    reach = seeds.map(t_of_seeds) * deviation / np.sqrt(seeds)
    columns = {"seeds": seeds, "difference": mean, "low": mean - reach, "high": mean + reach}
    return pd.DataFrame(columns).reset_index()


def t_of_seeds(seeds: int) -> float:
    """The quantile 0.975 of t, for the mean over so many seeds; NaN for fewer than FEWEST_SEEDS."""
    if seeds < FEWEST_SEEDS:
        return np.nan
    return float(t_quantile(seeds - 1)) if seeds >= FEWEST_CLUSTERS else T_OF_FEW[seeds - FEWEST_SEEDS]
