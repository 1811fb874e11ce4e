"""Why are words of a label deep? What is left of its effect when frequency, position and other confounds are held."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from depthlab.analysis.clusters import clustered_by
from depthlab.analysis.labels import most_frequent
from depthlab.analysis.regression import Fit, clustered_least_squares, p_values
from depthlab.analysis.splines import Splines
from depthlab.errors import UserError
from depthlab.metrics.intervals import FEWEST_CLUSTERS, t_quantile


class Confound(NamedTuple):
    """What depth may depend on beside a word's label."""

    text: str
    unit: str
    by_doubling: bool = False
    """It counts by its logarithm to base 2: some words, such as addresses of web pages, have very much of it."""


CONFOUNDS: dict[str, Confound] = {
    "frequency": Confound("word frequency", "log10 of occurrences per million words"),
    "position": Confound("position in the input", "pieces"),
    "pieces": Confound("length of the word", "pieces", by_doubling=True),
    "loss": Confound("loss of the piece when masked", "nats"),
    "sentence_length": Confound("length of the sentence", "words"),
}
"""By column of a table of tokens."""
PRODUCT = ("loss", "frequency")
"""Confounds that count by their product, too."""

DETERMINED = 1e-6
"""Share of a column's variance that labels and the columns before it must leave, for a coefficient of its own."""
ENDS = (0.1, 0.9)
"""Quantiles of a confound between which its own effect is told."""
BINS, BINS_OF_PAIR = 10, 5
"""Of each confound, in which the residuals are looked at; of each of a pair."""


class LabelEffects(NamedTuple):
    """What regressions of depth on labels and confounds have found."""

    labels: pd.DataFrame
    """A row for every model and label, the label with most pieces first: model, label, clusters (in how many it
    occurs), pieces; alone, how many iterations deeper its pieces are than all others; held, the same when the confounds
    are held: a difference of adjusted means. Each with the bounds of its 95 % interval: alone_low, alone_high, and so
    on; nan for labels in fewer than FEWEST_CLUSTERS. p_value: that held is 0, by Holm's correction for the most
    frequent labels of the model (as `most_frequent`), so that with 5 % none is found where there is none; nan for
    others."""
    confounds: pd.DataFrame
    """A row for every model and confound held: model, confound, from and to (its quantiles ENDS), effect (iterations
    more at the one than at the other), low and high."""
    checks: pd.DataFrame
    """Does the regression fit? A row for every model and confound, and the pair: model, confound; residual, the mean
    residual that is furthest from 0 of all bins, and its standard error."""
    fits: pd.DataFrame
    """A row for every model: model; pieces and clusters, how many are in both regressions; by, what a cluster is;
    without, the pieces that are not since a confound is not known; r_squared, of labels alone, and r_squared_held, with
    the confounds."""


def label_effects(tokens: pd.DataFrame, labels: pd.Series) -> LabelEffects:
    """How much of each label's effect on depth is left when confounds are held.

    Two regressions by ordinary least squares over the same pieces: of depth on indicators of all labels, and of depth
    on these and splines of the confounds (of the length of the word by its logarithm), with products for
    :data:`PRODUCT`. A label's effect is its coefficient less the average of the others, weighted by their pieces:
    alone, that is the mean depth of its pieces less that of all other pieces; held, the difference of their adjusted
    means, those at the distribution of the confounds over all pieces.

    Standard errors are clustered as :func:`~depthlab.analysis.clusters.clustered_by` says, with quantiles of t for few
    clusters.

    A confound that is not measured or the same everywhere is left out, and so are columns that the labels and the
    columns before them determine; models with the same depth everywhere are left out.

    Args:
        tokens: as :mod:`depthlab.analysis.tokens` has them.
        labels: of the rows of `tokens`; pieces without a label are left out.

    Raises:
        UserError: There are too few labelled pieces, or no model in which depths differ; SciPy is missing.
    """
    rows = tokens.assign(label=labels).dropna(subset="label")
    models = [of_model for _, of_model in rows.groupby("model", sort=False)]
    found = [_of_model(of_model) for of_model in models if of_model.depth.nunique() > 1]
    if not found:
        raise UserError("depth is the same for all labelled words of every model: there is no effect to look for")
    effects = LabelEffects(*(pd.concat(tables, ignore_index=True) for tables in zip(*found, strict=True)))
    shown = effects.labels.label.isin(most_frequent(effects.labels))
    corrected = effects.labels.p_value.where(shown).groupby(effects.labels.model).transform(holm)
    return effects._replace(labels=effects.labels.assign(p_value=corrected))


def holm(p_values: pd.Series) -> pd.Series:
    """Corrected for their number (Holm 1979); what is nan does not count."""
    ordered = p_values.dropna().sort_values()
    return (ordered * np.arange(len(ordered), 0, -1)).clip(upper=1).cummax().reindex(p_values.index)


def _of_model(rows: pd.DataFrame) -> LabelEffects:
    model = rows.model.iloc[0]
    measured = [name for name in CONFOUNDS if rows[name].notna().any()]
    complete = rows.dropna(subset=measured)
    by = clustered_by(complete)
    cluster, clusters = pd.factorize(complete[by])
    indicators = pd.get_dummies(complete.label, dtype=float)
    confounds = complete[[name for name in measured if complete[name].nunique() > 1]].astype(float)
    doubling = [name for name in confounds if CONFOUNDS[name].by_doubling]
    confounds[doubling] = np.log2(confounds[doubling])
    splines = Splines(confounds, PRODUCT if set(PRODUCT) <= set(confounds) else None)
    columns = {"": indicators.to_numpy(), **splines(confounds)}
    whose = np.repeat(list(columns), [part.shape[1] for part in columns.values()])
    design = np.column_stack(list(columns.values()))
    if len(clusters) < 2 or indicators.shape[1] < 2 or len(complete) <= design.shape[1]:
        raise UserError(
            f"{model}: {len(complete)} pieces of {indicators.shape[1]} labels in {len(clusters)} {by}s are too few for "
            "a regression; take a larger treebank"
        )
    kept = undetermined(design)
    depth = complete.depth.to_numpy(float)
    alone = clustered_least_squares(columns[""], depth, cluster)
    held = clustered_least_squares(design[:, kept], depth, cluster)

    spans = []
    for name in (name for name in confounds if (whose[kept] == name).any()):
        ends = confounds[name].quantile(ENDS).to_numpy()
        contrast = np.append(np.zeros(indicators.shape[1]), splines.change(confounds, name, *ends))[kept]
        effect = held.coefficients @ contrast
        reach = t_quantile(len(clusters) - 1) * _error(held.influence @ contrast)
        ends = 2**ends if name in doubling else ends
        spans.append([model, name, *ends, effect, effect - reach, effect + reach])
    fit = {
        "pieces": len(complete),
        "clusters": len(clusters),
        "by": by,
        "without": len(rows) - len(complete),
        "r_squared": alone.r_squared,
        "r_squared_held": held.r_squared,
    }
    labels = _effects(complete, indicators, {"alone": alone, "held": held}, complete.groupby("label")[by].nunique())
    return LabelEffects(
        labels.assign(model=model),
        pd.DataFrame(spans, columns=["model", "confound", "from", "to", "effect", "low", "high"]),
        _checks(confounds, held.residuals, cluster).assign(model=model),
        pd.DataFrame([{"model": model, **fit}]),
    )


def undetermined(design: np.ndarray) -> np.ndarray:
    """Which columns [P] of a design [N, P] are not a combination of those before them."""
    left = np.square(np.diag(np.linalg.qr(design, mode="r")))
    return left > DETERMINED * np.square(design).sum(axis=0)


def _error(influence: np.ndarray) -> np.ndarray:
    """Standard errors of estimates, by the influence [C, ...] of clusters on them."""
    return np.sqrt(np.square(influence).sum(axis=0))


def _effects(rows: pd.DataFrame, indicators: pd.DataFrame, fits: dict[str, Fit], clusters: pd.Series) -> pd.DataFrame:
    labels = indicators.shape[1]
    share = indicators.mean().to_numpy()
    contrasts = np.where(np.eye(labels), 1, -share / (1 - share[:, None]))  # [K, K], each label against the others
    table = pd.DataFrame({"clusters": clusters, "pieces": rows.groupby("label").size()})
    for name, fit in fits.items():
        influence = fit.influence[:, :labels] @ contrasts.T
        table[name] = contrasts @ fit.coefficients[:labels]
        reach = t_quantile(clusters.to_numpy() - 1) * _error(influence)
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - reach, table[name] + reach
    table["p_value"] = p_values(table.held, _error(influence), clusters - 1)
    return table.sort_values("pieces", ascending=False, kind="stable").reset_index()


def _checks(confounds: pd.DataFrame, residuals: np.ndarray, cluster: np.ndarray) -> pd.DataFrame:
    """Mean residuals over bins, quantiles of each confound and of the pair."""
    bins = {name: _bins(column, BINS) for name, column in confounds.items()}
    if set(PRODUCT) <= set(confounds):
        one, other = (_bins(confounds[name], BINS_OF_PAIR) for name in PRODUCT)
        bins[" x ".join(PRODUCT)] = one * BINS_OF_PAIR + other
    found = []
    for name, number in bins.items():
        cells = pd.DataFrame({"bin": number, "cluster": cluster, "residual": residuals})
        by_cluster = cells.groupby(["bin", "cluster"]).residual.sum().groupby("bin").agg(["sum", "size", _length])
        table = by_cluster.div(cells.groupby("bin").size(), axis=0)[by_cluster["size"] >= FEWEST_CLUSTERS]
        if len(table):
            found.append([name, *table.loc[table["sum"].abs().idxmax(), ["sum", "_length"]]])
    return pd.DataFrame(found, columns=["confound", "residual", "error"])


def _bins(values: pd.Series, bins: int) -> np.ndarray:
    return np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")


def _length(values: pd.Series) -> float:
    return np.linalg.norm(values)
