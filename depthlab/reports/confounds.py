"""Tables of what is left of labels' effects when confounds are held, and of the confounds' own."""

import pandas as pd

from depthlab.analysis.confounds import CONFOUNDS, FEWEST_SENTENCES, LabelEffects
from depthlab.render.document import Table, with_bounds
from depthlab.reports.labels import compare


def effects_table(effects: LabelEffects, name: str) -> Table:
    """The most frequent labels, which are a "relation", a "part of speech"; the models side by side."""
    fits = "; ".join(
        f"{fit.model}: {fit.pieces:,} pieces in {fit.sentences:,} sentences"
        + (f", {fit.without:,} more without a value of a confound" if fit.without else "")
        + f", R² {fit.r_squared:.3f} alone and {fit.r_squared_held:.3f} with the confounds"
        for fit in effects.fits.itertuples()
    )
    caption = (
        f"How many iterations deeper the pieces of words of a {name} are than all others. Alone: as they are. Held: at "
        "the same values of the confounds in the table of slopes, by least squares on indicators of all labels and the "
        "confounds, each linear, but the length of the word by its logarithm. Left: the share that held is of alone; a "
        "dash where alone is not significantly different from 0. In brackets: 95 % intervals, errors clustered by "
        f"sentence, of labels in {FEWEST_SENTENCES} sentences or more. {fits}."
    )
    return compare(caption, name, ["alone", "held", "left (%)"], effects.labels, _cells)


def slopes_table(effects: LabelEffects) -> Table:
    """How depth goes with each confound when labels and the other confounds are held, the models side by side."""
    slopes = effects.confounds.set_index(["confound", "model"])
    models = list(dict.fromkeys(effects.fits.model))
    rows = []
    for confound in (name for name in CONFOUNDS if name in set(effects.confounds.confound)):
        cells = [slopes.loc[confound, m] if (confound, m) in slopes.index else None for m in models]
        text, unit, by_doubling = CONFOUNDS[confound]
        named = f"{text} ({'doublings of ' * by_doubling}{unit})"
        rows.append([named, *("-" if c is None else with_bounds(*c, "+.3f") for c in cells)])
    caption = (
        "Iterations more for a unit more of a confound, at the same label and the same other confounds. In brackets: "
        "95 % intervals, errors clustered by sentence. A dash: not measured, or determined by labels and others."
    )
    return Table(caption, ["confound (unit)", *models], rows)


def _cells(found: pd.Series) -> list[str]:
    effects = [with_bounds(found[n], found[f"{n}_low"], found[f"{n}_high"], "+.2f") for n in ("alone", "held")]
    share = with_bounds(*(100 * found[["left", "left_low", "left_high"]].astype(float)), ".0f")
    return [*effects, share]
