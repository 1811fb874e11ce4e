"""The paper's choice: of all that was tried for a task, the configuration with the best mean over seeds on dev."""

import math
from collections.abc import Sequence

import pandas as pd

from depthlab.analysis.records import RunRecord
from depthlab.analysis.scores import SCORES

CONFIGURATION = ["learning_rate", "batch_size", "epoch"]
WORK = {
    "iterations": ("val/token_iterations_per_example", 1.0),
    "gflops": ("val/flops_per_example", 1e-9),
    "milliseconds": ("val/seconds_per_example", 1e3),
}
"""What an example takes in validation: by column its tag, and the factor to the column's unit."""
FEWEST_EPOCHS = 2
"""Of the paper's grid."""


def epochs_table(runs: Sequence[RunRecord], models: Sequence[str]) -> pd.DataFrame:
    """Every validated epoch of every run, a row each; `models` are the names of the runs' models.

    Returns:
        Columns run (its directory), model, task, metric (that is its score), seed; learning_rate, batch_size, epoch;
        the score, GLUE's own and all metrics, in percent; depth and depth_cls, mean iterations per token; those of
        `WORK`, but of a control, which passes over each example twice; tokens and token_iterations of training, all
        epochs of the run. NaN where nothing was measured.
    """
    return pd.DataFrame(
        {
            "run": str(run.directory),
            "model": model,
            "task": run.task,
            "metric": run.metric,
            "seed": run.seed,
            "learning_rate": run.learning_rate,
            "batch_size": run.batch_size,
            "epoch": epoch["epoch"],
            **{name: 100 * epoch.get(f"val/{name}", math.nan) for name in SCORES},
            "depth": epoch.get("val/depth/all", math.nan),
            "depth_cls": epoch.get("val/depth/cls", math.nan),
            **{
                name: math.nan if "control" in run.model else factor * epoch.get(tag, math.nan)
                for name, (tag, factor) in WORK.items()
            },
            "tokens": run.tokens,
            "token_iterations": run.token_iterations,
        }
        for run, model in zip(runs, models, strict=True)
        for epoch in run.epochs
    )


def choose(epochs: pd.DataFrame) -> pd.DataFrame:
    """For each model and task the rows of the best configuration, one of each seed.

    A configuration is a learning rate, a batch and a number of epochs, out of runs that may go on for longer: every
    whole epoch from the second on that was validated, or every one there is where none of these is. The best has the
    highest mean of the score over the seeds, the fewest epochs among equals. Only those with the most seeds compete:
    the fewer the seeds, the further chance takes the best of many.

    Returns:
        The rows of `epochs`, as :func:`epochs_table` makes them, with columns `tried`, the configurations that
        competed, and `incomplete`, those that could not.
    """
    group = ["model", "task"]
    eligible = (epochs.epoch >= FEWEST_EPOCHS) & (epochs.epoch % 1 == 0)
    is_any = eligible.groupby([epochs[name] for name in group]).transform("any")
    epochs = epochs[eligible | ~is_any]
    comparable = epochs.assign(score=epochs.score.fillna(-math.inf))  # a run that diverged is no reason to be chosen
    by_configuration = comparable.groupby([*group, *CONFIGURATION], as_index=False)
    means = by_configuration.agg(seeds=("seed", "size"), mean=("score", "mean"))
    is_complete = means.seeds == means.groupby(group).seeds.transform("max")
    means["tried"] = is_complete.groupby([means[name] for name in group]).transform("sum")
    means["incomplete"] = (~is_complete).groupby([means[name] for name in group]).transform("sum")
    order = ["mean", "epoch", "learning_rate", "batch_size"]
    best_first = means[is_complete].sort_values(order, ascending=[False, True, True, True])
    best = best_first.drop_duplicates(group)
    return epochs.merge(best.drop(columns=["seeds", "mean"]), on=[*group, *CONFIGURATION], validate="many_to_one")
