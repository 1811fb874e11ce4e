"""Why are words of a label deep? What is left of its effect when frequency, position and other confounds are held."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from depthlab.analysis.regression import QUANTILE, Fit, clustered_least_squares, ratio_interval
from depthlab.errors import UserError


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

FEWEST_SENTENCES = 30
"""With a label in fewer, its interval would be too narrow: the normal approximation is of many clusters."""
DETERMINED = 1e-6
"""Share of a confound's variance that labels and the other confounds must leave, for an effect of its own."""


class LabelEffects(NamedTuple):
    """What regressions of depth on labels and confounds have found."""

    labels: pd.DataFrame
    """A row for every model and label, the label with most pieces first: model, label, sentences, pieces; alone, how
    many iterations deeper its pieces are than all others; held, the same when the confounds are held; left, the share
    that held is of alone. Each with the bounds of its 95 % interval: alone_low, alone_high, and so on. Nan: intervals
    of labels in fewer than FEWEST_SENTENCES sentences; all of left where alone is not significantly different from 0,
    since there is nothing of which something could be left."""
    confounds: pd.DataFrame
    """A row for every model and confound held: model, confound, slope (iterations per unit, or per doubling), low and
    high."""
    fits: pd.DataFrame
    """A row for every model: model; pieces and sentences, how many are in both regressions; without, the pieces that
    are not since a confound is not known; r_squared, of labels alone, and r_squared_held, with the confounds."""


def label_effects(tokens: pd.DataFrame, labels: pd.Series) -> LabelEffects:
    """How much of each label's effect on depth is left when confounds are held.

    Two regressions by ordinary least squares over the same pieces: of depth on indicators of all labels, and of depth
    on these and the confounds, each of which enters linearly (the length of the word by its logarithm). A label's
    effect is its coefficient less the average of the others, weighted by their pieces: alone, that is the mean depth of
    its pieces less that of all other pieces.

    Standard errors are clustered by sentence; the interval of the share left is Fieller's, with the covariance of the
    two effects.

    A confound that is not measured or the same everywhere is left out, and so is one that the labels and the confounds
    before it determine; models with the same depth everywhere are left out.

    Args:
        tokens: as :mod:`depthlab.analysis.tokens` has them.
        labels: of the rows of `tokens`; pieces without a label are left out.

    Raises:
        UserError: There are too few labelled pieces, or no model in which depths differ.
    """
    rows = tokens.assign(label=labels).dropna(subset="label")
    models = [of_model for _, of_model in rows.groupby("model", sort=False)]
    found = [_of_model(of_model) for of_model in models if of_model.depth.nunique() > 1]
    if not found:
        raise UserError("depth is the same for all labelled words of every model: there is no effect to look for")
    return LabelEffects(*(pd.concat(tables, ignore_index=True) for tables in zip(*found, strict=True)))


def _of_model(rows: pd.DataFrame) -> LabelEffects:
    model = rows.model.iloc[0]
    measured = [name for name in CONFOUNDS if rows[name].notna().any()]
    complete = rows.dropna(subset=measured)
    indicators = pd.get_dummies(complete.label, dtype=float)
    sentence, sentences = pd.factorize(complete.sentence)
    labels = indicators.shape[1]
    if len(sentences) < 2 or labels < 2 or len(complete) <= labels + len(measured):
        raise UserError(
            f"{model}: {len(complete)} pieces of {labels} labels in {len(sentences)} sentences are too few for a "
            "regression; take a larger treebank"
        )
    confounds = complete[measured].astype(float)
    doubling = [name for name in measured if CONFOUNDS[name].by_doubling]
    confounds[doubling] = np.log2(confounds[doubling])
    confounds = confounds[_undetermined(indicators, confounds)]
    depth = complete.depth.to_numpy(float)
    alone = clustered_least_squares(indicators.to_numpy(), depth, sentence)
    held = clustered_least_squares(np.column_stack([indicators, confounds]), depth, sentence)

    slopes = held.coefficients[labels:]
    reach = QUANTILE * np.sqrt(np.square(held.influence[:, labels:]).sum(axis=0))
    columns = {"slope": slopes, "low": slopes - reach, "high": slopes + reach}
    counts = {"pieces": len(complete), "sentences": len(sentences), "without": len(rows) - len(complete)}
    shares = {"r_squared": alone.r_squared, "r_squared_held": held.r_squared}
    return LabelEffects(
        _effects(complete, indicators, {"alone": alone, "held": held}).assign(model=model),
        pd.DataFrame({"model": model, "confound": confounds.columns, **columns}),
        pd.DataFrame([{"model": model, **counts, **shares}]),
    )


def _undetermined(indicators: pd.DataFrame, confounds: pd.DataFrame) -> list[str]:
    """The confounds that are not a combination of the labels and the confounds before them."""
    _, r = np.linalg.qr(np.column_stack([indicators, confounds]))
    left = np.square(np.diag(r)[indicators.shape[1] :]) / len(confounds)  # variance that the others do not explain
    return confounds.columns[left > DETERMINED * confounds.var(ddof=0)].tolist()


def _effects(rows: pd.DataFrame, indicators: pd.DataFrame, fits: dict[str, Fit]) -> pd.DataFrame:
    labels = indicators.shape[1]
    share = indicators.mean().to_numpy()
    contrasts = np.where(np.eye(labels), 1, -share / (1 - share[:, None]))  # [K, K], each label against the others
    sentences = rows.groupby("label").sentence.nunique()
    is_common = sentences.to_numpy() >= FEWEST_SENTENCES
    table = pd.DataFrame({"sentences": sentences, "pieces": rows.groupby("label").size()})
    influence = {name: fit.influence[:, :labels] @ contrasts.T for name, fit in fits.items()}
    variance = {name: np.square(values).sum(axis=0) for name, values in influence.items()}
    for name, fit in fits.items():
        table[name] = contrasts @ fit.coefficients[:labels]
        reach = np.where(is_common, QUANTILE * np.sqrt(variance[name]), np.nan)
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - reach, table[name] + reach
    covariance = (influence["held"] * influence["alone"]).sum(axis=0)
    low, high = ratio_interval(table.held, table.alone, variance["held"], variance["alone"], covariance)
    table["left"] = (table.held / table.alone).where(is_common & low.notna())
    table["left_low"], table["left_high"] = low.where(is_common), high.where(is_common)
    return table.sort_values("pieces", ascending=False, kind="stable").reset_index()
