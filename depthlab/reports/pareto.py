"""Depth against quality: score by mean depth and by measured time, adaptive models beside fixed depths."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from depthlab.analysis.choice import choose, epochs_table
from depthlab.analysis.names import Settings, name_models, natural_order, tell_apart
from depthlab.analysis.records import RunRecord
from depthlab.analysis.scores import SCORES
from depthlab.render.document import Block, Heading, Table, spread
from depthlab.render.figures import COLOURS, MARKERS, embed, no_formula, plain
from depthlab.reports.differences import difference_blocks
from depthlab.reports.glue import called, in_order

SWEPT = {"act": ("time_penalty", "tau"), "fixed": ("num_hidden_layers", "depth")}
"""By halting: what varies along the line of a family, and how to call it."""

MEASURED = ("score", "depth", "milliseconds")


def pareto_blocks(records: Sequence[RunRecord]) -> tuple[list[Block], pd.DataFrame]:
    """The curves, their points and differences from fixed depths; and the points as a table of numbers."""
    models = tell_apart(records)
    names = name_models(models)
    chosen = choose(epochs_table(records, names))
    points = summarize(chosen, families(names, models))
    figure = embed(draw(points), _caption(points), "pareto.png")
    tasks = {task: called(task) for task in in_order(points.task)}
    return [figure, Heading("The points"), _table(points), *difference_blocks(chosen, names, models, tasks)], points


def families(names: Sequence[str], models: Sequence[Settings]) -> pd.DataFrame:
    """What line each model is on: models that differ only in tau are one family, and so are fixed depths.

    Adaptive models have a family for every cap, and for every control.

    Returns:
        Columns model, family, setting (what varies along the family) and value.
    """
    swept = [SWEPT.get(model.get("halting"), ("", "")) for model in models]
    rest = [{n: v for n, v in model.items() if n != name} for model, (name, _) in zip(models, swept, strict=True)]
    lines = name_models(rest, always=("checkpoint", "halting", "num_hidden_layers"))
    rows = [
        (name, line, word, model.get(setting))
        for name, line, model, (setting, word) in zip(names, lines, models, swept, strict=True)
    ]
    return pd.DataFrame(rows, columns=["model", "family", "setting", "value"]).drop_duplicates("model")


def summarize(chosen: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """The points of the curves, of what :func:`choose` and :func:`families` make.

    Returns:
        A row for every task and model, along the families: `runs`, and of the score (percent), the mean depth and the
        milliseconds per example the median, lowest and highest of the runs; NaN where one of them has none.
    """
    chosen = chosen.merge(lines, on="model", validate="many_to_one")
    chosen["milliseconds"] = 1000 * chosen.seconds_per_example
    statistics = {
        f"{name}_{statistic}": (name, partial(pd.Series.agg, func=statistic, skipna=False))
        for name in MEASURED
        for statistic in ("median", "min", "max")
    }
    by = ["task", "metric", "family", "setting", "value", "model", "learning_rate", "batch_size", "epoch"]
    points = chosen.groupby(by, as_index=False, dropna=False).agg(runs=("seed", "size"), **statistics)
    order = [*in_order(points.task), *sorted(set(points.family), key=natural_order)]
    return points.sort_values(
        ["task", "family", "value"],
        key=lambda column: column if column.name == "value" else column.map(order.index),
        ignore_index=True,
    )


def draw(points: pd.DataFrame) -> Canvas:
    """The picture, a row for every task."""
    tasks = list(dict.fromkeys(points.task))
    families = points.groupby("family", sort=False)
    styles = {
        name: {
            "label": f"{no_formula(name)} ({_few(family.runs)} runs a point)",
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": "--" if family.setting.iloc[0] == "depth" else "-",
        }
        for index, (name, family) in enumerate(families)
    }
    canvas = Canvas(figsize=(10, 3.4 * len(tasks) + 0.3 * len(styles) + 0.4), layout="constrained")
    grid = canvas.subplots(len(tasks), 2, squeeze=False, sharey="row")
    for row, task in zip(grid, tasks, strict=True):
        of_task = points[points.task == task]
        row[0].set_ylabel(f"{no_formula(called(task))}: {SCORES[of_task.metric.iloc[0]]} (%)")
        _panel(row[0], of_task, "depth", "mean depth (iterations per token)", styles)
        _panel(row[1], of_task, "milliseconds", "time (ms per example, model forward)", styles)
    canvas.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower left", frameon=False)
    return canvas


def _few(runs: pd.Series) -> str:
    return str(runs.min()) if runs.nunique() == 1 else f"{runs.min()} to {runs.max()}"


def _panel(axes: Axes, points: pd.DataFrame, measured: str, label: str, styles: dict[str, dict[str, str]]) -> None:
    axes.set_xlabel(label)
    for number, (family, style) in enumerate(styles.items()):
        line = points[points.family == family]
        bars = {"xerr": _distances(line, measured), "yerr": _distances(line, "score")}
        look = {"markersize": 5, "linewidth": 1.5, "elinewidth": 1, "capsize": 2, **style}
        axes.errorbar(line[f"{measured}_median"], line.score_median, **bars, **look)
        for point in line[line[f"{measured}_median"].notna()].itertuples():
            where = (getattr(point, f"{measured}_median"), point.score_median)
            text, beside = f"{point.value:g}" if point.setting else "", (4, -9 if number % 2 else 4)
            axes.annotate(text, where, beside, textcoords="offset points", fontsize=7, color=style["color"])
    if not points[f"{measured}_median"].notna().any():
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    plain(axes)
    axes.tick_params(labelleft=True)


def _distances(line: pd.DataFrame, name: str) -> list[pd.Series]:
    """From the median to the lowest and to the highest."""
    return [line[f"{name}_median"] - line[f"{name}_min"], line[f"{name}_max"] - line[f"{name}_median"]]


def _caption(points: pd.DataFrame) -> str:
    caption = (
        "Score on the development set against mean depth, and against the time that the model takes for an example "
        "in validation, without loading and metrics. A point is a model, in the best of its configurations (learning "
        "rate, batch, epochs; by the mean over seeds): the medians of its runs, one a seed, with bars from the "
        "lowest to the highest. The number beside a point is what differs along its line: tau, or where it is "
        "dashed the fixed depth. A control, which passes over each text twice, has no time. Times can be "
        "compared where the runs had the same machine, nothing beside them, and the same batch"
    )
    return f"{caption} (here {' and '.join(map(str, sorted(set(points.batch_size))))})."


def _table(points: pd.DataFrame) -> Table:
    rows = []
    for point, is_more in zip(points.itertuples(), points.duplicated(["task", "family"]), strict=True):
        line = "" if is_more else f"{called(point.task)}: {point.family}"
        setting = f"{point.setting} {point.value:g}" if point.setting else "-"
        ranges = [_range(point, name, form) for name, form in zip(MEASURED, (".1f", ".2f", ".2f"), strict=True)]
        configuration = f"{point.learning_rate:g}, {point.batch_size}, {point.epoch:g}"
        rows.append([line, setting, str(point.runs), *ranges, configuration])
    header = ["task: family", "", "runs", "score (%)", "mean depth", "ms per example", "learning rate, batch, epochs"]
    return Table("Medians over the runs of a point, and in brackets the lowest and the highest.", header, rows, left=2)


def _range(point: tuple, name: str, form: str) -> str:
    median, low, high = (getattr(point, f"{name}_{statistic}") for statistic in ("median", "min", "max"))
    return "-" if median != median else f"{median:{form}} [{spread(low, high, form)}]"
