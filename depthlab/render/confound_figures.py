"""Pictures of what depth goes with: confounds one by one, and labels before and after confounds are held."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from depthlab.analysis.clusters import depth_bounds
from depthlab.analysis.confounds import CONFOUNDS, LabelEffects
from depthlab.analysis.labels import most_frequent
from depthlab.errors import UserError
from depthlab.render.figures import COLOURS, MARKERS, no_formula, plain

STYLES = [
    {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
    for index in range(math.lcm(len(COLOURS), len(MARKERS)))
]
LEGEND = {
    "loc": "outside lower left",
    "frameon": False,
    "fontsize": 9,
    "title": "95 % intervals",
    "alignment": "left",
}
ABREAST = 3
"""Panels of a row."""
BINS = 20
"""Of a confound that has more values; one that has fewer has a bin for each."""


def binned_depth(tokens: pd.DataFrame, confound: str) -> pd.DataFrame:
    """Mean depth against a confound, each model in the same bins, of about as many pieces each.

    Args:
        tokens: as :mod:`depthlab.analysis.tokens` has them; pieces without a value are left out.
        confound: one of :data:`~depthlab.analysis.confounds.CONFOUNDS`.

    Returns:
        A row for every model and bin: model; value, the mean of the confound in the bin; pieces, how many; mean, their
        depth (iterations); low and high, its 95 % interval from the bootstrap over
        :func:`~depthlab.analysis.clusters.clustered_by`.

    Raises:
        UserError: The confound was not measured.
    """
    rows = tokens.dropna(subset=confound)
    if rows.empty:
        raise UserError(
            f"{confound} ({CONFOUNDS[confound].text}) was not measured: see --data.frequencies and --model.losses of "
            "depthlab predict"
        )
    values = np.unique(rows[confound])
    bounds = values if len(values) <= BINS else np.unique(np.quantile(rows[confound], np.arange(BINS) / BINS))
    rows = rows.assign(bin=np.searchsorted(bounds, rows[confound], side="right") - 1)
    found = {}
    for model, of_model in rows.groupby("model", sort=False):
        by_bin = of_model.groupby("bin")
        table = by_bin.agg(value=(confound, "mean"), pieces=("depth", "size"), mean=("depth", "mean"))
        table[["low", "high"]] = depth_bounds(of_model, "bin")
        found[model] = table
    return pd.concat(found, names=["model"]).reset_index("model").reset_index(drop=True)


def confound_figure(tokens: pd.DataFrame, confound: str) -> Figure:
    """:func:`binned_depth`, a line for every model with its 95 % band; below, the pieces behind each point.

    Raises:
        UserError: The confound was not measured.
    """
    points = binned_depth(tokens, confound)
    text, unit, by_doubling = CONFOUNDS[confound]
    figure = Figure(figsize=(6, 4.4 + 0.2 * points.model.nunique()), dpi=100, layout="constrained")
    depth, count = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    for (model, line), style in zip(points.groupby("model", sort=False), STYLES, strict=False):
        depth.fill_between(line.value, line.low, line.high, color=style["color"], alpha=0.2, linewidth=0)
        depth.plot(line.value, line["mean"], label=f"{no_formula(model)} ({line.pieces.sum():,} pieces)", **style)
        count.plot(line.value, line.pieces, linestyle="", markerfacecolor="none", **style)
    depth.set(ylabel="mean depth (iterations)", title=f"Depth and {text}")
    decades = (10 ** np.floor(np.log10(points.pieces.min())), 10 ** np.ceil(np.log10(points.pieces.max() + 1)))
    count.set(xlabel=f"{text} ({unit})", ylabel="pieces\nof a point", yscale="log", ylim=decades)
    count.yaxis.set_major_locator(LogLocator(numticks=9))  # every decade
    count.yaxis.set_major_formatter("{x:,.0f}")
    count.yaxis.set_minor_formatter("")
    if by_doubling:
        count.set_xscale("log", base=2)
        count.xaxis.set_major_formatter("{x:g}")
    figure.legend(**LEGEND, ncols=1)
    for axes in (depth, count):
        plain(axes)
    return figure


def effects_figure(effects: LabelEffects, name: str) -> Figure:
    """The effects of the most frequent labels, alone and with the confounds held, a panel for every model.

    Args:
        effects: as :func:`~depthlab.analysis.confounds.label_effects` makes them.
        name: what the labels are: "relation", "part of speech".
    """
    models = effects.labels.groupby("model", sort=False)
    labels = most_frequent(effects.labels)
    wide = min(len(models), ABREAST)
    high = math.ceil(len(models) / wide)
    figure = Figure(figsize=(2 + 4 * wide, 0.6 + 4 * high), dpi=100, layout="constrained")
    panels = [figure.add_subplot(high, wide, 1 + number) for number in range(len(models))]
    for axes, (model, table) in zip(panels, models, strict=True):
        table = table.set_index("label").reindex(labels)
        rows = np.arange(len(labels))
        axes.axvline(0, color="black", linewidth=0.8)
        drawn = (("alone", "alone", -0.15), ("held", "confounds held", 0.15))
        for style, (word, legend, up) in zip(STYLES, drawn, strict=False):
            bars = np.abs(table[[f"{word}_low", f"{word}_high"]].sub(table[word], axis=0)).T.to_numpy()
            axes.errorbar(table[word], rows + up, xerr=bars, linestyle="", capsize=2, label=legend, **style)
        pieces = table.pieces.fillna(0).astype(int)
        axes.set_yticks(rows, [f"{label} ({pieces[label]:,})" for label in labels])
        axes.invert_yaxis()
        axes.set(xlabel="deeper than all others (iterations)", title=no_formula(model))
        plain(axes, "x")
    for axes in panels[::wide]:
        axes.set_ylabel(f"{name} (pieces)")
    figure.legend(*panels[0].get_legend_handles_labels(), **LEGEND, ncols=2)
    return figure
