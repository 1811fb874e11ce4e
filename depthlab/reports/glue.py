"""Fine-tuning in one table: models and tasks, the best of the grid on dev, over seeds; GLUE beside the paper."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from depthlab.analysis.choice import choose, epochs_table
from depthlab.analysis.names import name_models, natural_order, tell_apart
from depthlab.analysis.records import RunRecord
from depthlab.analysis.scores import SCORES
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.render.document import Block, Bullets, Heading, Strong, Table, dashed, spread
from depthlab.reports.differences import difference_blocks

AVERAGED = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
"""The tasks of the average, in the paper's order: WNLI is left out."""

FOLDERS = {task: GLUE_TASKS[task].folder for task in (*AVERAGED, "wnli")}
"""What tasks are called in tables."""

Paper = dict[str, tuple[float, tuple[float, ...]]]
PAPER: Paper = {  # Simoulin & Crabbé 2021; by task: drafts of the thesis
    "paper: BERT-base": (76.9, (82.3, 81.4, 70.8, 89.3, 92.0, 38.8, 84.0, 87.1, 65.4)),
    "paper: ALBERT-base, 12 layers": (75.6, ()),
    "paper: adaptive, base": (75.2, (79.9, 79.2, 68.5, 89.0, 87.8, 36.7, 84.2, 86.5, 63.0)),
    "paper: adaptive, small": (74.2, (79.5, 78.5, 67.8, 88.3, 88.6, 33.8, 82.7, 85.2, 61.9)),
    "paper: adaptive, tiny": (72.6, (77.0, 76.8, 67.8, 86.4, 87.6, 27.5, 81.8, 84.7, 62.0)),
}
"""By model: GLUE's test average as published, and test scores by task, the first two MNLI's matched and mismatched."""

ROWS = {  # name in the table: column of the summary, and the factor to the table's unit
    "score: median over seeds": ("score_median", 1.0),
    "best seed": ("score_best", 1.0),
    "GLUE's own score: median": ("glue_score_median", 1.0),
    "best seed's": ("glue_score_best", 1.0),
    "mean depth: all tokens": ("depth", 1.0),
    "[CLS]": ("depth_cls", 1.0),
    "token-iterations (millions)": ("token_iterations", 1e-6),
}
WHAT_IS_LEARNT = tuple(f"data.{name}" for name in ("train", "hub", "name", "text", "label", "kind", "metrics"))
"""Settings of a task of your own that differ between tasks as a matter of course."""
METRICS = [name for name in SCORES if name not in ("score", "glue_score")]


def called(task: str) -> str:
    """What a task is called in tables."""
    return FOLDERS.get(task, task)


def in_order(tasks: Iterable[str]) -> list[str]:
    """GLUE's in the paper's order, then others by name."""
    return sorted({*tasks}, key=lambda task: ([*FOLDERS].index(task) if task in FOLDERS else len(FOLDERS), task))


def glue_blocks(records: Sequence[RunRecord]) -> tuple[list[Block], pd.DataFrame]:
    """As :func:`task_blocks`, with averages over GLUE's tasks, and the paper's numbers."""
    blocks, summary = task_blocks(records, PAPER)
    return blocks, pd.concat([summary, averages(summary), published()]).convert_dtypes()


def task_blocks(records: Sequence[RunRecord], paper: Paper | None = None) -> tuple[list[Block], pd.DataFrame]:
    """The tables of scores, of differences and of what was chosen, with notes; and all numbers in one table."""
    models = tell_apart(records)
    names = name_models(models)
    epochs = epochs_table(records, names)
    chosen = choose(epochs)
    summary = summarize(chosen)
    tasks = {task: called(task) for task in in_order(summary.task)}
    blocks: list[Block] = [_scores_table(summary, paper), *difference_blocks(chosen, names, models, tasks)]
    blocks += [Heading("What was chosen"), _chosen_table(summary)]
    if notes := _notes(records, epochs, summary):
        blocks += [Heading("To know"), Bullets(notes)]
    return blocks, summary.convert_dtypes()


def summarize(chosen: pd.DataFrame) -> pd.DataFrame:
    """What the seeds of every model and task have reached, of what :func:`choose` makes.

    Returns:
        A row for every model and task, in the order of the table's columns; scores in percent. Medians and extremes are
        over seeds, NaN where one has diverged; the best seed is that of the highest score, the first of equals; depths,
        token-iterations and tokens are means over seeds.
    """
    rows = []
    for (model, task), seeds in chosen.groupby(["model", "task"], sort=True):
        best = seeds.sort_values(["score", "seed"], ascending=[False, True]).iloc[0]
        rows.append(
            {
                "model": model,
                "task": task,
                "metric": best.metric,
                **{name: best[name] for name in ("learning_rate", "batch_size", "epoch", "tried", "incomplete")},
                "seeds": len(seeds),
                **{f"score_{name}": seeds.score.agg(name, skipna=False) for name in ("median", "min", "max", "mean")},
                "score_best": best.score,
                "glue_score_median": seeds.glue_score.median(skipna=False),
                "glue_score_best": best.glue_score,
                **{f"{name}_median": seeds[name].median(skipna=False) for name in METRICS},
                **{name: seeds[name].mean() for name in ("depth", "depth_cls", "token_iterations", "tokens")},
                "best_seed": best.seed,
                "best_run": best.run,
            }
        )
    summary = pd.DataFrame(rows)
    order = [*sorted(set(summary.model), key=natural_order), *in_order(summary.task)]
    return summary.sort_values(["model", "task"], key=lambda column: column.map(order.index), ignore_index=True)


def averages(summary: pd.DataFrame) -> pd.DataFrame:
    """Means over the tasks of each model, WNLI left out, every task weighing the same.

    Returns:
        A row for every model that has any of the eight tasks: the columns of `ROWS`; task is "average of all 8", or
        names how many there were, and then it can't be compared with that of others.
    """
    columns = [column for column, _ in ROWS.values()]
    by_model = summary[summary.task.isin(AVERAGED)].groupby("model")
    means, counts = by_model[columns].agg(lambda values: values.mean(skipna=False)), by_model.size()
    names = [f"average of {'all' if count == len(AVERAGED) else 'only'} {count}" for count in counts]
    return means.reset_index().assign(task=names)


def published() -> pd.DataFrame:
    """The paper's numbers: columns model, task and test_score, MNLI's the mean of its two."""
    rows = []
    for model, (average, scores) in PAPER.items():
        if scores:
            means = ((scores[0] + scores[1]) / 2, *scores[2:])
            rows += [(model, task, score) for task, score in zip(AVERAGED, means, strict=True)]
        rows.append((model, "average as published", average))
    return pd.DataFrame(rows, columns=["model", "task", "test_score"])


def _scores_table(summary: pd.DataFrame, paper: Paper | None) -> Table:
    """Models below each other, tasks that were tried side by side; of GLUE their average, and the paper's below."""
    tasks = in_order(summary.task)
    metric_of = dict(zip(summary.task, summary.metric, strict=True))
    metrics = [SCORES[metric_of[task]].removesuffix(" correlation") for task in tasks]
    rows = [["", "metric", *metrics, "-"]]
    highest = summary.groupby("task").score_median.max() if summary.model.nunique() > 1 else {}
    means = averages(summary).set_index("model")

    def add(model: str, name: str, cells: Mapping[str, str], average: str = "-") -> None:
        """A row, unless it is not a model's first and there is nothing in it."""
        row = [*(cells.get(task, "-") for task in tasks), average]
        if model or {*row} != {"-"}:
            rows.append([model, name, *row])

    for model, found in summary.groupby("model", sort=False):
        by_task = found.set_index("task")
        mean = means.loc[model] if model in means.index else None
        several = by_task[by_task.seeds > 1]
        spreads = {task: spread(row.score_min, row.score_max) for task, row in several.iterrows()}
        for name, (column, factor) in ROWS.items():
            cells = {task: dashed(value * factor) for task, value in by_task[column].items()}
            if paper is None and column.startswith("glue_score"):
                continue
            is_first = column == "score_median"
            if is_first:
                best = [task for task in cells if by_task.score_median[task] == highest.get(task)]
                cells |= {task: Strong(cells[task]) for task in best}
            add(model if is_first else "", name, cells, _average(mean, column, factor))
            if is_first:
                add("", "lowest..highest seed", spreads)
        add("", "seeds", {task: str(count) for task, count in by_task.seeds.items()})
    for model, (average, scores) in (paper or {}).items():
        texts = ["/".join(map(str, scores[:2])), *map(str, scores[2:])] if scores else []
        add(model, "TEST set", dict(zip(AVERAGED, texts, strict=bool(texts))), str(average))
    caption = (
        "Scores in percent, ours on the development sets. For each task the configuration (learning rate, batch, "
        "number of epochs) with the highest mean over seeds was chosen, and its seeds are shown: median, lowest and "
        "highest, best single seed. Bold: the highest median of ours. "
        "The choice and the score are of the same examples, which flatters the score. Depth is iterations per token. "
        "Token-iterations (layers applied to a token) are those of a whole training run, all its epochs, in the mean "
        "over seeds; in a model whose tokens have no depth of their own every token passes all layers."
    )
    of_glue = (
        " MNLI is the mean of matched and mismatched. The average weighs eight tasks alike and leaves out WNLI; where "
        "tasks are missing it says of how many it is, and can't be compared with others. GLUE's own score takes the "
        "mean of two metrics in QQP (F1, accuracy), MRPC (the same) and STS-B (Spearman, Pearson). The "
        "paper's numbers are of the TEST sets: averages as published, scores by task from drafts of "
        "the first author's thesis, which do not reproduce these averages exactly (MNLI: matched/mismatched)."
    )
    header = ["model", "", *map(called, tasks), "average"]
    if paper is None:
        return Table(caption, header[:-1], [row[:-1] for row in rows], left=2)
    return Table(caption + of_glue, header, rows, left=2)


def _average(mean: pd.Series | None, column: str, factor: float) -> str:
    if mean is None or math.isnan(mean[column]):
        return "-"
    text = dashed(mean[column] * factor)
    return text if " all " in mean.task else f"{text} ({mean.task.rpartition(' ')[2]} tasks)"


def _chosen_table(summary: pd.DataFrame) -> Table:
    rows = []
    for row, is_first in zip(summary.itertuples(), ~summary.model.duplicated(), strict=True):
        configuration = (f"{row.learning_rate:g}", str(row.batch_size), f"{row.epoch:g}")
        counts = (str(row.seeds), str(row.tried), f"{row.score_mean:.1f}", str(row.best_seed))
        rows.append([row.model if is_first else "", called(row.task), *configuration, *counts])
    header = ["model", "task", "learning rate", "batch", "epochs", "seeds", "tried", "mean score", "best seed"]
    caption = (
        "The configuration of each score above. Tried: how many configurations (learning rate x batch x epochs) it "
        "is the best of; the more, the more it owes to chance. Epochs are counted in runs that may go on for longer, "
        "so their learning rate had not fallen to 0 unless the run ended there."
    )
    return Table(caption, header, rows, left=2)


def _notes(records: Sequence[RunRecord], epochs: pd.DataFrame, summary: pd.DataFrame) -> list[str]:
    """What a reader would not guess from the tables."""
    notes = [
        f"{row.model}, {called(row.task)}: {row.incomplete} configurations have fewer than {row.seeds} "
        "seeds and did not compete."
        for row in summary[summary.incomplete > 0].itertuples()
    ]
    by_run = dict(zip(epochs.run, epochs.model, strict=True))
    settings: dict[tuple[str, str], dict[str, list[str]]] = {}  # by model and setting: the tasks of each value
    sizes: dict[tuple[str, str], set[str]] = {}
    for record in records:
        model, folder = by_run[str(record.directory)], called(record.task)
        for name, value in record.training.items():
            tasks = settings.setdefault((model, name), {}).setdefault(str(value), [])
            if folder not in tasks:
                tasks.append(folder)
        counts = ", ".join(f"{count:,} {split}" for split, count in record.data.items())
        sizes.setdefault((model, folder), set()).add(counts)
    for (model, name), by_value in settings.items():
        if len(by_value) > 1 and name not in WHAT_IS_LEARNT:
            said = "; ".join(f"{value} ({', '.join(tasks)})" for value, tasks in by_value.items())
            notes.append(f"{model}: {name} differs between tasks: {said}.")
    for (model, folder), counts in sizes.items():
        if len(counts) > 1:
            said = " or ".join(sorted(counts))
            notes.append(f"{model}, {folder}: its runs had different data ({said} examples), yet they are pooled.")
    is_halved = (summary.task == "mnli") & summary.accuracy_mismatched_median.isna()
    notes += [f"{model}: MNLI is its matched set alone." for model in summary[is_halved].model]
    return notes
