"""Probing in one table: models and tasks, the best epoch on dev, over seeds, beside the paper's numbers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from depthlab.analysis.names import name_models, natural_order, tell_apart
from depthlab.analysis.records import RunRecord
from depthlab.data.benchmarks.probing import PROBING_TASKS
from depthlab.render.document import Block, Bullets, Heading, Strong, Table, dashed, spread
from depthlab.reports.differences import difference_blocks
from depthlab.run.directory import best_epoch

PAPER_TASKS = ("tense", "subj_number", "obj_number", "top_constituents")
"""The paper's, in its order."""

PAPER: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "paper: adaptive, base, warm-up 200": ((87.5, 93.9, 96.1, 91.2), (5.4, 5.4, 5.8, 7.2)),
    "paper: adaptive, base, warm-up 3,000 (a draft)": ((), (7.5, 6.9, 7.7, 7.2)),
    "paper: fixed, 12 layers": ((87.3, 94.0, 96.0, 91.9), (12, 12, 12, 12)),
}
"""Simoulin & Crabbé 2021, Table 3, and a draft of the first author's thesis: by task, test accuracy and mean depth."""

GRID = ("learning_rate", "batch_size")

ROWS = {  # name in the table: column of the summary, and how it is written
    "test accuracy: median over seeds": ("test_median", ".1f"),
    "dev accuracy: median": ("dev_median", ".1f"),
    "best epoch of each seed": ("best_epochs", ""),
    "mean depth: all tokens": ("depth", ".2f"),
    "[CLS]": ("depth_cls", ".2f"),
    "token-iterations (millions)": ("token_iterations_millions", ".1f"),
    "training examples": ("examples", ",.0f"),
    "seeds": ("seeds", ".0f"),
}


def probing_blocks(records: Sequence[RunRecord]) -> tuple[list[Block], pd.DataFrame]:
    """The tables, and what a reader would not guess from them; and the numbers, as :func:`summarize` has them."""
    settings = [replace(run, training=run.training | {name: getattr(run, name) for name in GRID}) for run in records]
    models = tell_apart(settings)
    names = name_models(models, ("checkpoint", "halting"))
    runs = best_epochs(records, names)
    summary = summarize(runs)
    tasks = {task: task for task in PROBING_TASKS}
    blocks: list[Block] = [_table(summary), *difference_blocks(runs.assign(score=runs.test), names, models, tasks)]
    if notes := [*_notes(summary)]:
        blocks += [Heading("To know"), Bullets(notes)]
    return blocks, summary


def best_epochs(records: Sequence[RunRecord], names: Sequence[str]) -> pd.DataFrame:
    """The epoch of each run that is best on dev, the first of equals; `names` are those of the runs' models.

    Nothing is chosen among learning rates, batches, warm-ups or data: they make models of their own.

    Returns:
        A row for every run: model, task, seed, best_epoch; steps of the run and of its warm-up; accuracies in percent
        on dev and test, NaN where nothing was tested; depths (iterations per token, of the test split, or of dev where
        nothing was tested), millions of token-iterations, and examples trained on.
    """
    rows = []
    for record, name in zip(records, names, strict=True):
        best = best_epoch(record.epochs, "val/score")
        drawn = record.training["train_examples"]
        rows.append(
            {
                "model": name,
                "task": record.task,
                "seed": record.seed,
                "best_epoch": f"{best['epoch']:g}",
                "steps": record.epochs[-1]["step"],
                "warmup_steps": record.training["model.warmup_steps"],
                "dev": 100 * best["val/accuracy"],
                "test": 100 * record.tested.get("test/accuracy", math.nan),
                "depth": record.tested.get("test/depth/all", best.get("val/depth/all", math.nan)),
                "depth_cls": record.tested.get("test/depth/cls", best.get("val/depth/cls", math.nan)),
                "token_iterations_millions": record.token_iterations / 1e6,
                "examples": record.data["train"] if drawn == "all" else drawn,
            }
        )
    return pd.DataFrame(rows)


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """What the seeds of every model and task have reached, of what :func:`best_epochs` makes.

    Returns:
        A row for every model and task: medians, lowest and highest accuracies over seeds, NaN where nothing was tested
        or one has diverged; depths, examples and token-iterations are means over seeds; `best_epochs` in the order of
        the seeds; `steps` of the longest run, and of its warm-up; `untested` runs.
    """
    by_task = runs.sort_values("seed").groupby(["model", "task"])
    summary = by_task[["depth", "depth_cls", "token_iterations_millions", "examples"]].mean()
    summary["seeds"] = by_task.size()
    summary["untested"] = summary.seeds - by_task.test.count()
    summary["best_epochs"] = by_task.best_epoch.agg(", ".join)
    summary[["steps", "warmup_steps"]] = by_task[["steps", "warmup_steps"]].max()
    for split in ("dev", "test"):
        for statistic in ("median", "min", "max"):
            # A seed without a test is noted; one that has diverged leaves nothing to say of the rest.
            statistics = partial(pd.Series.agg, func=statistic, skipna=split == "test")
            summary[f"{split}_{statistic}"] = by_task[split].agg(statistics)
    order = [*sorted(summary.index.levels[0], key=natural_order), *PROBING_TASKS]
    return summary.reset_index().sort_values(
        ["model", "task"], key=lambda column: column.map(order.index), ignore_index=True
    )


def _table(summary: pd.DataFrame) -> Table:
    """Models below each other, tasks side by side, the paper's below."""
    tasks = [task for task in PROBING_TASKS if task in (*PAPER_TASKS, *summary.task)]
    of_task = summary.groupby("task")
    are_comparable = (of_task.size() > 1) & (of_task.examples.nunique() == 1)
    highest = of_task.test_median.max().where(are_comparable)
    rows = []
    for model, found in summary.groupby("model", sort=False):
        by_task = found.set_index("task")
        for number, (name, (column, form)) in enumerate(ROWS.items()):
            cells = {task: dashed(value, form) for task, value in by_task[column].items()}
            if column == "test_median":
                best = [task for task in cells if by_task.test_median[task] == highest.get(task)]
                cells |= {task: Strong(cells[task]) for task in best}
            rows.append(_row("" if number else model, name, cells, tasks))
            if column in ("test_median", "dev_median"):
                split = column.partition("_")[0]
                several = by_task[(by_task.seeds > 1) & by_task[column].notna()]
                spreads = {task: spread(row[f"{split}_min"], row[f"{split}_max"]) for task, row in several.iterrows()}
                rows.append(_row("", "lowest..highest seed", spreads, tasks))
    for model, (accuracies, depths) in PAPER.items():
        rows.append(_row(model, "test accuracy", dict(zip(PAPER_TASKS, map(str, accuracies), strict=False)), tasks))
        rows.append(_row("", "mean depth: all tokens", dict(zip(PAPER_TASKS, map(str, depths), strict=True)), tasks))
    caption = (
        "Accuracy in percent, of the epoch of each run that is best on dev, the first of equals: the choice flatters "
        "dev's accuracy, not the test's. Bold: the highest of ours, where all "
        "trained on as many examples. Depth is iterations per token on the test split (on dev where nothing was "
        "tested), in the mean over seeds; token-iterations (layers applied to a token) are those of a whole training "
        "run, all its epochs. Our files are SentEval's, or made of treebanks by depthlab's rules and then smaller (see "
        "the training examples). The paper's numbers are of its own models (Simoulin and Crabbé 2021, Table 3): "
        "accuracies on the test sets of SentEval's own files, a hundred thousand examples a task to train on; mean "
        "depths over the tokens of the Penn Treebank, not of a test set. The warm-up of 3,000 steps is from a draft of "
        "the first author's thesis, which gives no accuracies. Where ours are of other files, they can't be compared."
    )
    return Table(caption, ["model", "", *tasks], rows, left=2)


def _notes(summary: pd.DataFrame) -> Iterator[str]:
    for row in summary.itertuples():
        if row.untested:
            yield (
                f"{row.model}, {row.task}: {row.untested} of {row.seeds} runs were not tested; `depthlab fit --config "
                "RUN/config.yaml --ckpt_path last` tests one that has ended."
            )
        if row.warmup_steps >= row.steps:
            yield (
                f"{row.model}, {row.task}: the warm-up of {row.warmup_steps:,} steps is no shorter than the training "
                f"of {row.steps:,}: the learning rate rises to the end."
            )


def _row(model: str, name: str, by_task: Mapping[str, str], tasks: Sequence[str]) -> list[str]:
    return [model, name, *(by_task.get(task, "-") for task in tasks)]
