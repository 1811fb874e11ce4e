"""Labels beside confounds: planted effects come back, what is owed to frequency vanishes; tables and pictures."""

import io
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from depthlab.analysis.confounds import CONFOUNDS, label_effects
from depthlab.errors import UserError
from depthlab.render.confound_figures import BINS, binned_depth, confound_figure, effects_figure
from depthlab.render.document import Document
from depthlab.render.figures import COLOURS
from depthlab.reports.confounds import effects_table, slopes_table
from tests.analysis.token_tables import token_table

PLANTED = {"frequency": -0.7, "position": 0.05, "pieces": 0.4, "loss": 0.3, "sentence_length": -0.1}
"""Iterations for a unit more; of pieces, for twice as many."""


def planted_table(seed=0, sentences=150, effects=None, slopes=PLANTED):
    """Depths, not rounded, that owe to labels and confounds what is planted, and to sentences and chance.

    Nouns are rare words and determiners frequent ones; so depth may owe to frequency what it seems to owe to them.
    """
    table = token_table(seed, sentences)
    table["frequency"] -= table.upos.map({"NOUN": 1.5, "DET": -1.5}).fillna(0)
    rng = np.random.default_rng(seed)
    depth = 10 + table.upos.map(effects or {}).fillna(0)
    for name, slope in slopes.items():
        depth += slope * (np.log2(table[name]) if name == "pieces" else table[name])
    return table.assign(depth=depth + rng.normal(0, 0.5, sentences)[table.sentence] + rng.normal(0, 0.5, len(table)))


def test_planted_coefficients_are_recovered():
    table = planted_table(effects={"VERB": 1.0})
    found = label_effects(table, table.upos)
    slopes = found.confounds.set_index("confound")
    assert list(slopes.index) == list(CONFOUNDS)
    for name, slope in PLANTED.items():
        assert slopes.low[name] - 0.02 < slope < slopes.high[name] + 0.02
        assert slopes.high[name] - slopes.low[name] < 0.2
    verbs = found.labels.set_index("label").loc["VERB"]
    assert verbs.held_low < 1 < verbs.held_high and verbs.held == pytest.approx(1, abs=0.1)
    assert found.fits.r_squared_held[0] > 0.6 > 0.3 > found.fits.r_squared[0]


def test_an_effect_that_is_frequency_vanishes_and_another_stays():
    table = planted_table(effects={"VERB": 1.0}, slopes={"frequency": -1.0})
    labels = label_effects(table, table.upos).labels.set_index("label")
    determiners, verbs = labels.loc["DET"], labels.loc["VERB"]
    assert determiners.alone_high < -1.2
    # What is left is not of frequency: the rest of them has the verbs in it, a fifth of the pieces.
    assert determiners.held == pytest.approx(-0.25, abs=0.1) and determiners.left_high < 0.25
    assert verbs.left_low < 1 < verbs.left_high and verbs.held == pytest.approx(1, abs=0.1)
    nothing = planted_table(slopes={"frequency": -1.0})
    labels = label_effects(nothing, nothing.upos).labels.set_index("label")
    for name in ("DET", "NOUN"):
        found = labels.loc[name]
        assert abs(found.alone) > 1 and not found.alone_low < 0 < found.alone_high
        assert found.held_low < 0 < found.held_high and found.left_low < 0 < found.left_high < 0.15


def test_effects_equal_those_of_other_codings():
    """Alone: a difference of means. Held: with the first label as the base, and sklearn."""
    table = planted_table(1, effects={"VERB": 1.0})
    found = label_effects(table, table.upos)
    others = pd.get_dummies(table.upos, dtype=float).iloc[:, 1:]
    held = table[list(CONFOUNDS)].assign(pieces=np.log2(table.pieces))
    design = pd.concat([others, held], axis=1).to_numpy()
    model = LinearRegression().fit(design, table.depth)
    coefficients = pd.Series([0, *model.coef_[:4]], index=sorted(table.upos.unique()))
    for row in found.labels.itertuples():
        is_label = table.upos == row.label
        assert row.alone == pytest.approx(table.depth[is_label].mean() - table.depth[~is_label].mean())
        rest = coefficients[table.upos[~is_label]].mean()
        assert row.held == pytest.approx(coefficients[row.label] - rest)
        assert (row.pieces, row.sentences) == (is_label.sum(), table.sentence[is_label].nunique())
    np.testing.assert_allclose(found.confounds.slope, model.coef_[4:])
    assert found.fits.r_squared_held[0] == pytest.approx(model.score(design, table.depth))


def test_intervals_are_those_of_resampled_sentences():
    table = planted_table(2, effects={"VERB": 1.0})
    found = label_effects(table, table.upos).labels.set_index("label")
    rng = np.random.default_rng(0)
    indicators = pd.get_dummies(table.upos, dtype=float)
    alone, held = indicators.to_numpy(), indicators.join(table[list(CONFOUNDS)]).assign(pieces=np.log2(table.pieces))
    of_sentence = [np.flatnonzero(table.sentence == number) for number in range(150)]
    depth, share = table.depth.to_numpy(), indicators.mean().to_numpy()
    estimates = []
    for _ in range(300):
        rows = np.concatenate([of_sentence[number] for number in rng.integers(0, 150, 150)])
        effects = []
        for design in (alone, held.to_numpy()):
            coefficients = np.linalg.lstsq(design[rows], depth[rows])[0][:5]
            effects.append(coefficients - (share @ coefficients - share * coefficients) / (1 - share))
        estimates.append([*effects, effects[1] / effects[0]])
    low, high = np.quantile(estimates, [0.025, 0.975], axis=0)  # [3, K] each
    for row, name in enumerate(("alone", "held", "left")):
        bounds = found.loc[indicators.columns, [f"{name}_low", f"{name}_high"]]
        for number, label in enumerate(indicators.columns):
            if name == "left" and label not in ("DET", "NOUN", "VERB"):  # where alone is far from 0
                continue
            width = high[row, number] - low[row, number]
            assert bounds.loc[label].tolist() == pytest.approx([low[row, number], high[row, number]], abs=width / 4)


def test_what_is_not_measured_and_what_is_determined_is_not_held():
    table = planted_table(3).assign(frequency=np.nan, pieces=1)
    table["sentence_length"] = 2 * table.position + table.upos.map({"NOUN": 1, "VERB": 5}).fillna(3)
    table.loc[::10, "loss"] = np.nan
    found = label_effects(table, table.upos)
    assert found.confounds.confound.tolist() == ["position", "loss"]
    assert found.fits.without[0] == len(table.iloc[::10]) and found.fits.pieces[0] == table.loss.notna().sum()
    measured = table.dropna(subset="loss")
    is_verb = measured.upos == "VERB"
    expected = measured.depth[is_verb].mean() - measured.depth[~is_verb].mean()
    assert found.labels.set_index("label").alone["VERB"] == pytest.approx(expected)


def test_rare_labels_have_no_interval():
    table = planted_table(4)
    table.loc[table.sentence == 7, "upos"] = "X"
    found = label_effects(table, table.upos).labels.set_index("label")
    bounds = found.filter(regex="_low|_high|left")
    assert bounds.loc["X"].isna().all() and bounds.drop("X").filter(regex="alone|held").notna().all(axis=None)
    assert found[["alone", "held"]].notna().all(axis=None)


def test_what_can_not_be_asked():
    table = planted_table(5)
    with pytest.raises(UserError, match="depth is the same for all labelled words of every model"):
        label_effects(table.assign(depth=12), table.upos)
    sentence = table[table.sentence == 3]
    with pytest.raises(UserError, match=rf"ours: {len(sentence)} pieces of \d labels in 1 sentences are too few"):
        label_effects(sentence, sentence.upos)
    with pytest.raises(UserError, match=r"loss \(loss of the piece when masked\) was not measured"):
        confound_figure(table.assign(loss=np.nan), "loss")


@pytest.fixture(scope="module")
def two_models():
    """And one of fixed depth."""
    ours, theirs = planted_table(6, effects={"VERB": 1.0}), planted_table(6).assign(model="theirs")
    return pd.concat([ours, theirs.assign(loss=np.nan), ours.assign(model="fixed", depth=12)], ignore_index=True)


def test_the_tables(two_models):
    effects = label_effects(two_models, two_models.upos)
    assert effects.fits.model.tolist() == ["ours", "theirs"]
    table = effects_table(effects, "part of speech")
    columns = ["ours: alone", "held", "left (%)", "theirs: alone", "held", "left (%)"]
    assert table.header == ["part of speech", *columns]
    rows = {row[0]: row for row in table.rows}
    for label, (model, start) in product(rows, (("ours", 1), ("theirs", 4))):
        cells = rows[label][start : start + 3]
        found = effects.labels[(effects.labels.model == model) & (effects.labels.label == label)].squeeze()
        assert cells[0] == f"{found.alone:+.2f} [{found.alone_low:+.2f}, {found.alone_high:+.2f}]"
        assert cells[1] == f"{found.held:+.2f} [{found.held_low:+.2f}, {found.held_high:+.2f}]"
        share = f"{100 * found.left:.0f} [{100 * found.left_low:.0f}, {100 * found.left_high:.0f}]"
        assert cells[2] == ("-" if np.isnan(found.left) else share)
    assert f"ours: {effects.fits.pieces[0]:,} pieces in 150 sentences, R²" in table.caption
    slopes = slopes_table(effects)
    assert [row[0] for row in slopes.rows] == [
        "word frequency (log10 of occurrences per million words)",
        "position in the input (pieces)",
        "length of the word (doublings of pieces)",
        "loss of the piece when masked (nats)",
        "length of the sentence (words)",
    ]
    assert slopes.rows[3][2] == "-" and re.fullmatch(r"\+0\.\d{3} \[\+0\.\d{3}, \+0\.\d{3}\]", slopes.rows[3][1])
    assert "| part of speech |" in Document("why", [table, slopes]).to_markdown()


@pytest.mark.parametrize("confound", CONFOUNDS)
def test_bins(confound, two_models):
    points = binned_depth(two_models, confound)
    for model, of_model in points.groupby("model"):
        rows = two_models[two_models.model == model].dropna(subset=confound).sort_values(confound)
        values, depths = rows[confound].to_numpy(), rows.depth.to_numpy()
        start = 0
        for point in of_model.itertuples():  # one after the other, without gaps
            inside = slice(start, start + point.pieces)
            assert (point.value, point.mean) == pytest.approx((values[inside].mean(), depths[inside].mean()))
            assert start == 0 or values[start - 1] < values[start]
            assert np.isnan(point.low) or point.low - 1e-9 <= point.mean <= point.high + 1e-9
            start += point.pieces
        assert start == len(rows)
        if len(np.unique(values)) <= BINS:
            assert len(of_model) == len(np.unique(values))
        else:
            assert BINS / 2 < len(of_model) <= BINS and of_model.pieces.max() < len(rows) / 5


@pytest.mark.parametrize("confound", CONFOUNDS)
def test_pictures_of_confounds(confound, two_models):
    figure = confound_figure(two_models, confound)
    depth, count = figure.axes
    text, unit, by_doubling = CONFOUNDS[confound]
    assert depth.get_ylabel() == "mean depth (iterations)" and count.get_xlabel() == f"{text} ({unit})"
    assert "pieces" in count.get_ylabel() and (count.get_xscale() == "log") == by_doubling
    models = ["ours", "theirs", "fixed"] if confound != "loss" else ["ours", "fixed"]
    (legend,) = figure.legends
    pieces = {model: (two_models.model == model).sum() for model in models}
    assert [t.get_text() for t in legend.get_texts()] == [f"{model} ({pieces[model]:,} pieces)" for model in models]
    points = binned_depth(two_models, confound)
    for model, line, counted in zip(models, depth.lines, count.lines, strict=True):
        of_model = points[points.model == model]
        np.testing.assert_array_equal(line.get_xydata(), of_model[["value", "mean"]])
        np.testing.assert_array_equal(counted.get_ydata(), of_model.pieces)
        assert line.get_color() == counted.get_color() == COLOURS[models.index(model)]
    figure.savefig(io.BytesIO())


def test_the_picture_of_effects(two_models):
    effects = label_effects(two_models, two_models.upos)
    figure = effects_figure(effects, "part of speech")
    assert [axes.get_title() for axes in figure.axes] == ["ours", "theirs"]
    for axes in figure.axes:
        assert axes.get_xlabel() == "deeper than all others (iterations)"
        of_model = effects.labels[effects.labels.model == axes.get_title()].set_index("label")
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == [f"{label} ({count:,})" for label, count in of_model.pieces.items()]
        points = {container.get_label(): container.lines[0].get_xdata() for container in axes.containers}
        np.testing.assert_array_equal(points["alone"], of_model.alone)
        np.testing.assert_array_equal(points["confounds held"], of_model.held)
    figure.savefig(io.BytesIO())
