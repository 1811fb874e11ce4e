"""Labels beside confounds: planted effects come back, what is owed to frequency vanishes."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from depthlab.analysis.confounds import CONFOUNDS, PRODUCT, holm, label_effects
from depthlab.analysis.labels import without_subtype
from depthlab.analysis.splines import Splines
from depthlab.data.treebanks.alignment import read_treebank
from depthlab.errors import UserError
from depthlab.metrics.intervals import t_quantile
from tests.analysis.token_tables import PLANTED, planted_table
from tests.benchmarks.adjusted_effects import Method, methods, plant, rates
from tests.support import SHARED


def test_planted_effects_are_recovered():
    table = planted_table(effects={"VERB": 1.0})
    found = label_effects(table, table.upos)
    spans = found.confounds.set_index("confound")
    assert list(spans.index) == list(CONFOUNDS)
    for name, slope in PLANTED.items():
        values = np.log2(table[name]) if name == "pieces" else table[name]
        change = slope * np.diff(values.quantile([0.1, 0.9]))[0]
        assert spans.low[name] - 0.1 < change < spans.high[name] + 0.1
        assert list(spans.loc[name, ["from", "to"]]) == pytest.approx(table[name].quantile([0.1, 0.9]).tolist())
    verbs = found.labels.set_index("label").loc["VERB"]
    assert verbs.held_low < 1 < verbs.held_high and verbs.held == pytest.approx(1, abs=0.1) and verbs.p_value < 0.001
    assert found.fits.r_squared_held[0] > 0.6 > 0.3 > found.fits.r_squared[0]
    assert (found.checks.residual.abs() < 4 * found.checks.error).all() and len(found.checks) == 6


def test_what_is_no_straight_line_vanishes():
    """Labels without an effect, depth a curve of frequency and loss: with lines in their place nouns stand out."""
    table = planted_table(slopes={"frequency": -1.0})
    table["depth"] += 0.5 * (table.frequency - 3) ** 2 * np.exp(-table.loss)
    found = label_effects(table, table.upos).labels.set_index("label")
    for name in ("DET", "NOUN"):
        assert not found.alone_low[name] < 0 < found.alone_high[name]
        assert found.held_low[name] < 0 < found.held_high[name] and found.p_value[name] > 0.05
    lines = Method(table.upos, table[list(CONFOUNDS)].to_numpy(), table.sentence, now=False)(table.depth)
    assert not lines.held_low["NOUN"] < 0 < lines.held_high["NOUN"]


def test_a_misfit_is_seen():
    """A hole between two knots: the residuals of its bin."""
    table = planted_table(slopes={})
    at = table.frequency.between(*table.frequency.quantile([0.45, 0.48]))
    found = label_effects(table.assign(depth=table.depth - 5 * at), table.upos).checks.set_index("confound")
    assert abs(found.residual["frequency"]) > 3 * found.error["frequency"] > 0
    assert abs(found.residual["position"]) < 4 * found.error["position"]


def test_effects_are_differences_of_adjusted_means():
    """Of sklearn's predictions with every piece given the label, and with each of the others by its share."""
    table = planted_table(1, effects={"VERB": 1.0})
    found = label_effects(table, table.upos)
    confounds = table[list(CONFOUNDS)].assign(pieces=np.log2(table.pieces))
    splines = np.column_stack(list(Splines(confounds, PRODUCT)(confounds).values()))
    indicators = pd.get_dummies(table.upos, dtype=float)
    model = LinearRegression(fit_intercept=False).fit(np.column_stack([indicators, splines]), table.depth)
    share = indicators.mean()
    means = pd.Series(
        [model.predict(np.column_stack([indicators * 0 + row, splines])).mean() for row in np.eye(5)], share.index
    )
    for row in found.labels.itertuples():
        is_label = table.upos == row.label
        assert row.alone == pytest.approx(table.depth[is_label].mean() - table.depth[~is_label].mean())
        rest = np.average(means.drop(row.label), weights=share.drop(row.label))
        assert row.held == pytest.approx(means[row.label] - rest, abs=1e-4)
        assert (row.pieces, row.clusters) == (is_label.sum(), table.document[is_label].nunique())
    assert found.fits[["by", "clusters"]].loc[0].tolist() == ["document", 75]


@pytest.mark.parametrize("by", ["document", "sentence"])
def test_intervals_are_those_of_resampled_clusters(by):
    table = planted_table(2, effects={"VERB": 1.0})
    if by == "sentence":
        table["document"] = "the only one"
    found = label_effects(table, table.upos)
    assert found.fits.by[0] == by
    rng = np.random.default_rng(0)
    confounds = table[list(CONFOUNDS)].assign(pieces=np.log2(table.pieces))
    splines = np.column_stack(list(Splines(confounds, PRODUCT)(confounds).values()))
    indicators = pd.get_dummies(table.upos, dtype=float)
    design, share, depth = np.column_stack([indicators, splines]), indicators.mean().to_numpy(), table.depth.to_numpy()
    number, names = pd.factorize(table[by])
    of_cluster = [np.flatnonzero(number == cluster) for cluster in range(len(names))]
    effects = []
    for _ in range(200):
        rows = np.concatenate([of_cluster[cluster] for cluster in rng.integers(0, len(names), len(names))])
        coefficients = np.linalg.lstsq(design[rows], depth[rows])[0][:5]
        effects.append(coefficients - (share @ coefficients - share * coefficients) / (1 - share))
    labels = found.labels.set_index("label").loc[indicators.columns]
    errors = (labels.held_high - labels.held_low) / 2 / t_quantile(len(names) - 1)
    np.testing.assert_allclose(errors, np.std(effects, axis=0), rtol=0.3)


def test_what_is_not_measured_and_what_is_determined_is_not_held():
    table = planted_table(3).assign(frequency=np.nan, pieces=1)
    table["sentence_length"] = table.position
    table.loc[::10, "loss"] = np.nan
    found = label_effects(table, table.upos)
    assert found.confounds.confound.tolist() == ["position", "loss"]
    assert found.fits.without[0] == len(table.iloc[::10]) and found.fits.pieces[0] == table.loss.notna().sum()
    measured = table.dropna(subset="loss")
    is_verb = measured.upos == "VERB"
    expected = measured.depth[is_verb].mean() - measured.depth[~is_verb].mean()
    assert found.labels.set_index("label").alone["VERB"] == pytest.approx(expected)


def test_labels_of_few_documents_have_no_interval():
    table = planted_table(4)
    table.loc[(table.sentence < 18) & (table.word == 0), "upos"] = "X"  # nine documents
    found = label_effects(table, table.upos).labels.set_index("label")
    bounds = found.filter(regex="_low|_high|p_value")
    assert bounds.loc["X"].isna().all() and bounds.drop("X").notna().all(axis=None)
    assert found[["alone", "held"]].notna().all(axis=None)
    few = table[table.sentence < 18]
    assert label_effects(few, few.upos).labels.filter(regex="_low|_high|p_value").isna().all(axis=None)


def test_holms_correction_by_hand():
    assert holm(pd.Series([0.01, np.nan, 0.04, 0.03])).tolist() == pytest.approx(
        [0.03, np.nan, 0.06, 0.06], nan_ok=True
    )


@pytest.mark.full
def test_intervals_hold_what_they_say():
    """Fifty copies of what tests/benchmarks/adjusted_effects.py does with real words: the rates, within their noise."""
    table = planted_table(7, sentences=200)
    table["loss"] = np.random.default_rng(0).gamma(2, 1, len(table)) * table.upos.map({"NOUN": 4, "DET": 0.2}).fillna(1)
    nothing = rates(table, table.upos, {}, 50)
    lines, splines = nothing.index
    assert nothing.covered[lines] < 0.8 and nothing["any"][lines] > 0.5
    assert nothing.excludes[splines] < 0.1 and nothing["any"][splines] < 0.14
    assert rates(table, table.upos, {"VERB": 0.2, "ADP": -0.1}, 50).covered[splines] == pytest.approx(0.95, abs=0.05)
    copy = plant(table, table.upos, {}, 0)
    alike = label_effects(copy, table.upos).labels.set_index("label")
    found = methods(table, table.upos)[splines](copy.depth)
    columns = ["held", "held_low", "held_high"]
    pd.testing.assert_frame_equal(found[columns], alike.loc[found.index, columns], check_names=False, atol=1e-5)


def test_what_can_not_be_asked():
    table = planted_table(5)
    with pytest.raises(UserError, match="depth is the same for all labelled words of every model"):
        label_effects(table.assign(depth=12), table.upos)
    sentence = table[table.sentence == 3]
    with pytest.raises(UserError, match=rf"ours: {len(sentence)} pieces of \d labels in 1 sentences are too few"):
        label_effects(sentence, sentence.upos)


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
    table = planted_table(5)
    with pytest.raises(UserError, match=r"need SciPy: pip install 'depthlab\[report\]'"):
        label_effects(table, table.upos)


@pytest.mark.full
def test_intervals_hold_what_they_say_of_the_words_of_a_treebank():
    """Words of EWT in its documents, how often they are in it, and losses as rare words have them."""
    sentences, _ = read_treebank(SHARED / "ud-english-ewt/en_ewt-ud-dev.conllu.gz")
    table = pd.DataFrame(
        {
            "document": sentence.document,
            "sentence": number,
            "word": place,
            "form": word.form.lower(),
            "deprel": without_subtype(word.deprel),
            "pieces": 1 + len(word.form) // 6,
            "position": place + 1,
            "sentence_length": len(sentence.words),
        }
        for number, sentence in enumerate(sentences)
        for place, word in enumerate(sentence.words)
    )
    table["frequency"] = np.log10(table.groupby("form").form.transform("size") / len(table) * 1e6)
    table["loss"] = np.random.default_rng(0).gamma(2, 4 - 0.6 * table.frequency.clip(upper=5))
    nothing = rates(table, table.deprel, {}, 100)
    lines, splines = nothing.index
    assert nothing.excludes[lines] > 0.2 and nothing.excludes[splines] == pytest.approx(0.05, abs=0.03)
    assert nothing.most[splines] < 0.13 and nothing["any"][splines] < 0.13  # 0.05 and four standard errors
    planted = rates(table, table.deprel, {"root": 0.1, "punct": 0.2, "amod": -0.1, "nsubj": 0.05}, 100)
    assert 0.93 < planted.covered[splines] < 0.97
