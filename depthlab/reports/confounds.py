"""Tables of labels' effects when confounds are held, and of the confounds' own; what holds in several treebanks."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from depthlab.analysis.confounds import BINS, BINS_OF_PAIR, CONFOUNDS, LabelEffects
from depthlab.analysis.labels import most_frequent
from depthlab.metrics.intervals import FEWEST_CLUSTERS
from depthlab.render.document import Strong, Table, p_value, with_bounds
from depthlab.reports.labels import compare

LEVEL = 0.05
"""Up to which a corrected p is found."""


def effects_table(effects: LabelEffects, name: str) -> Table:
    """The most frequent labels, which are a "relation", a "part of speech"; the models side by side."""
    fits = "; ".join(
        f"{fit.model}: {fit.pieces:,} pieces in {fit.clusters:,} {fit.by}s"
        + (f", {fit.without:,} more without a value of a confound" if fit.without else "")
        + f", R² {fit.r_squared:.3f} alone and {fit.r_squared_held:.3f} with the confounds"
        for fit in effects.fits.itertuples()
    )
    caption = (
        f"How many iterations deeper the pieces of words of a {name} are than all others. Alone: as they are. Held: "
        "the difference of adjusted means, with the confounds of the table below as they are over all pieces, by least "
        "squares on indicators of all labels, splines of the confounds, and products of those of loss and frequency. "
        f"In brackets: 95 % intervals, errors clustered by {_by(effects)}, of labels in {FEWEST_CLUSTERS} of them or "
        "more. p: that held is 0, corrected for the labels shown (Holm); bold up to 0.05, so that with 5 % any label "
        f"is bold where none matters. {fits}."
    )
    return compare(caption, name, ["alone", "held", "p"], effects.labels, _cells)


def in_all(effects: LabelEffects, treebanks: Mapping[str, Sequence[str]]) -> str:
    """What holds in all treebanks, with the confounds held and after the correction.

    Args:
        effects: as :func:`~depthlab.analysis.confounds.label_effects` makes them.
        treebanks: by model the names in `effects` of what it is on each treebank.
    """
    found = effects.labels.assign(sign=np.sign(effects.labels.held).where(effects.labels.p_value <= LEVEL))
    signs = found.pivot(index="label", columns="model", values="sign").reindex(most_frequent(found))
    texts = []
    for model, names in treebanks.items():
        if len(names) > 1:
            ways = {"deeper": 1, "shallower": -1}
            same = {way: signs.index[(signs[list(names)] == sign).all(axis=1)] for way, sign in ways.items()}
            listed = "; ".join(f"{way}: {', '.join(labels) or 'none'}" for way, labels in same.items())
            texts.append(f"In all {len(names)} treebanks of {model}, held and after the correction, {listed}.")
    return " ".join(texts) or "One treebank each: what is said of words in general needs a second."


def confounds_table(effects: LabelEffects) -> Table:
    """How depth goes with each confound when labels and the others are held, and if it fits; models side by side."""
    spans, checks = (table.set_index(["confound", "model"]) for table in (effects.confounds, effects.checks))
    models = list(dict.fromkeys(effects.fits.model))
    rows = []
    for confound in dict.fromkeys(effects.checks.confound):
        row = [" x ".join(f"{CONFOUNDS[name].text} ({CONFOUNDS[name].unit})" for name in confound.split(" x "))]
        for key in ((confound, model) for model in models):
            span = spans.loc[key] if key in spans.index else None
            row += ["-"] * 2 if span is None else [f"{span['from']:.1f} to {span.to:.1f}", _bounded(span, "effect", "")]
            row.append(f"{checks.residual[key]:+.2f} ({checks.error[key]:.2f})" if key in checks.index else "-")
        rows.append(row)
    caption = (
        "Iterations more where a confound goes from its quantile 0.1 to its quantile 0.9, at the same labels and other "
        f"confounds. In brackets: 95 % intervals, errors clustered by {_by(effects)}. A dash: not measured, or "
        f"determined by labels and others. Does it fit? Worst: of {BINS} bins of the confound, or "
        f"{BINS_OF_PAIR} x {BINS_OF_PAIR} of a pair, the mean residual furthest from 0, and its standard error."
    )
    columns = ["from, to", "iterations", "worst"]
    header = [text for model in models for text in (f"{model}: {columns[0]}", *columns[1:])]
    return Table(caption, ["confound (unit)", *header], rows)


def _by(effects: LabelEffects) -> str:
    return " or ".join(dict.fromkeys(effects.fits.by))


def _cells(found: pd.Series) -> list[str]:
    alone, held = _bounded(found, "alone", "alone_"), _bounded(found, "held", "held_")
    return [alone, Strong(held) if found.p_value <= LEVEL else held, p_value(found.p_value)]


def _bounded(found: pd.Series, value: str, prefix: str) -> str:
    return with_bounds(found[value], found[f"{prefix}low"], found[f"{prefix}high"], "+.2f")
