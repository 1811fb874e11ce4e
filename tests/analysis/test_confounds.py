"""Labels beside confounds: planted effects come back, what is owed to frequency vanishes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from depthlab.analysis.confounds import CONFOUNDS, label_effects
from depthlab.errors import UserError
from tests.analysis.token_tables import PLANTED, planted_table


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
