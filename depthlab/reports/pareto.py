"""Depth against quality: score by depth, work and measured time, of halting rules and of training, and fixed depths."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from depthlab.analysis.choice import choose, epochs_table
from depthlab.analysis.differences import FEWEST_SEEDS, t_of_seeds
from depthlab.analysis.names import Settings, name_models, natural_order, tell_apart
from depthlab.analysis.records import RunRecord
from depthlab.analysis.scores import SCORES
from depthlab.render.document import Block, Heading, Table, with_bounds
from depthlab.render.figures import COLOURS, MARKERS, embed, no_formula, plain
from depthlab.reports.differences import difference_blocks
from depthlab.reports.glue import called, in_order

SWEPT = {"act": ("time_penalty", "tau"), "fixed": ("num_hidden_layers", "depth")}
"""By halting: what varies along the line of a family, and how to call it; unless a target or a dial does."""

PANELS = {
    "depth": ("mean depth", "iterations per token"),
    "iterations": ("token-iterations", "per example"),
    "gflops": ("layer GFLOPs", "per example"),
    "milliseconds": ("time", "ms per example, model forward"),
}
"""What a score is held against, by column: how to call it, and its unit."""
LEGEND_COLUMNS = 3
"""Names of families side by side, as wide as the four panels are."""


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

    Adaptive models have a family for every cap, and for every control; one checkpoint has one for every rule by which
    it was measured.

    Returns:
        Columns model, family, setting (what varies along the family) and value.
    """
    swept = [_swept(model) for model in models]
    rest = [{n: v for n, v in model.items() if n != name} for model, (name, _) in zip(models, swept, strict=True)]
    lines = name_models(rest, always=("checkpoint", "halting", "num_hidden_layers", "rule"))
    rows = [
        (name, line, word, model.get(setting))
        for name, line, model, (setting, word) in zip(names, lines, models, swept, strict=True)
    ]
    return pd.DataFrame(rows, columns=["model", "family", "setting", "value"]).drop_duplicates("model")


def summarize(chosen: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """The points of the curves, of what :func:`choose` and :func:`families` make.

    Returns:
        A row for every task and model, along the families: `runs`, one a seed, and of the score (percent) and of what
        is in `PANELS` the mean over them, and `low` and `high`, its 95 % interval (Student's t). NaN where one of the
        runs has none; no interval below FEWEST_SEEDS.
    """
    chosen = chosen.merge(lines, on="model", validate="many_to_one")
    statistics = {
        f"{name}_{statistic}": (name, function)
        for name in ("score", *PANELS)
        for statistic, function in (("mean", _mean), ("reach", _reach))
    }
    by = ["task", "metric", "family", "setting", "value", "model", "learning_rate", "batch_size", "epoch"]
    points = chosen.groupby(by, as_index=False, dropna=False).agg(runs=("seed", "size"), **statistics)
    for name in ("score", *PANELS):
        reach = points.pop(f"{name}_reach")
        points[f"{name}_low"], points[f"{name}_high"] = points[f"{name}_mean"] - reach, points[f"{name}_mean"] + reach
    order = [*in_order(points.task), *sorted(set(points.family), key=natural_order)]
    return points.sort_values(
        ["task", "family", "value"],
        key=lambda column: column if column.name == "value" else column.map(order.index),
        ignore_index=True,
    )


def _swept(model: Settings) -> tuple[str, str]:
    """The setting that varies along the model's line, and how to call it."""
    if "dial" in model:
        return "dial", "depth" if model["rule"] == "fixed" else "dial"
    return ("target", "target") if "target" in model else SWEPT.get(model.get("halting"), ("", ""))


def _mean(values: pd.Series) -> float:
    return values.mean(skipna=False)


def _reach(values: pd.Series) -> float:
    """Half of the interval of the mean."""
    return t_of_seeds(len(values)) * values.std(skipna=False) / np.sqrt(len(values))


def draw(points: pd.DataFrame) -> Canvas:
    """The picture, a row for every task."""
    tasks = list(dict.fromkeys(points.task))
    families = points.groupby("family", sort=False)
    styles = {
        name: {
            "label": f"{no_formula(name)} ({_few(family.runs)} a point)",
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": "--" if family.setting.iloc[0] == "depth" else "-",
        }
        for index, (name, family) in enumerate(families)
    }
    lines = math.ceil(len(styles) / LEGEND_COLUMNS)
    canvas = Canvas(figsize=(5 * len(PANELS), 3.4 * len(tasks) + 0.3 * lines + 0.4), layout="constrained")
    grid = canvas.subplots(len(tasks), len(PANELS), squeeze=False, sharey="row")
    for row, task in zip(grid, tasks, strict=True):
        of_task = points[points.task == task]
        row[0].set_ylabel(f"{no_formula(called(task))}: {SCORES[of_task.metric.iloc[0]]} (%)")
        for axes, (measured, (label, unit)) in zip(row, PANELS.items(), strict=True):
            _panel(axes, of_task, measured, f"{label} ({unit})", styles)
    names = grid[0, 0].get_legend_handles_labels()
    canvas.legend(*names, loc="outside lower left", ncols=LEGEND_COLUMNS, frameon=False)
    return canvas


def _few(runs: pd.Series) -> str:
    few, most = runs.min(), runs.max()
    return f"{few if few == most else f'{few} to {most}'} run{'' if most == 1 else 's'}"


def _panel(axes: Axes, points: pd.DataFrame, measured: str, label: str, styles: dict[str, dict[str, str]]) -> None:
    axes.set_xlabel(label)
    for number, (family, style) in enumerate(styles.items()):
        line = points[points.family == family]
        bars = {
            f"{axis}err": line[f"{name}_high"] - line[f"{name}_mean"]
            for axis, name in (("x", measured), ("y", "score"))
        }
        look = {"markersize": 5, "linewidth": 1.5, "elinewidth": 1, "capsize": 2, **style}
        axes.errorbar(line[f"{measured}_mean"], line.score_mean, **bars, **look)
        for point in line[line[f"{measured}_mean"].notna()].itertuples():
            where = (getattr(point, f"{measured}_mean"), point.score_mean)
            text, beside = f"{point.value:g}" if point.setting else "", (4, -9 if number % 2 else 4)
            axes.annotate(text, where, beside, textcoords="offset points", fontsize=7, color=style["color"])
    if not points[f"{measured}_mean"].notna().any():
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    plain(axes)
    axes.tick_params(labelleft=True)


def _caption(points: pd.DataFrame) -> str:
    caption = (
        "Score on the development set against mean depth, and against what an example takes in validation: "
        "token-iterations; floating point operations of the encoder's layers, in untied ones the keys and values of "
        "halted tokens, too; and the time of the model, without loading and metrics. A point is a model, in the best "
        "of its configurations (learning rate, batch, epochs; by the mean over seeds): the mean of its runs, one a "
        f"seed, with its 95 % interval (Student's t; none below {FEWEST_SEEDS} seeds). The number beside a point is "
        "what differs along its line: the dial of the rule by which one checkpoint was measured, tau, the target, or "
        "where it is dashed the fixed depth. A control, which passes over each text twice, has no work and no time. "
        "Times can be compared where the runs had the same machine, nothing beside them, and the same batch"
    )
    return f"{caption} (here {' and '.join(map(str, sorted(set(points.batch_size))))})."


def _table(points: pd.DataFrame) -> Table:
    rows = []
    for point, is_more in zip(points.itertuples(), points.duplicated(["task", "family"]), strict=True):
        line = "" if is_more else f"{called(point.task)}: {point.family}"
        setting = f"{point.setting} {point.value:g}" if point.setting else "-"
        ranges = [
            _range(point, name, ".1f" if name in ("score", "iterations") else ".2f") for name in ("score", *PANELS)
        ]
        epochs = f"{point.epoch:g}" if point.epoch else "best"
        configuration = f"{point.learning_rate:g}, {point.batch_size}, {epochs}"
        rows.append([line, setting, str(point.runs), *ranges, configuration])
    header = [
        "task: family",
        "",
        "runs",
        "score (%)",
        *(label for label, _ in PANELS.values()),
        "learning rate, batch, epochs",
    ]
    caption = (
        "Means over the runs of a point, and in brackets their 95 % intervals; columns in the units of the figure."
    )
    return Table(caption, header, rows, left=2)


def _range(point: tuple, name: str, form: str) -> str:
    return with_bounds(*(getattr(point, f"{name}_{statistic}") for statistic in ("mean", "low", "high")), form)
