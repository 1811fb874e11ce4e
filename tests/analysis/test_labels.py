"""Depth by label: aggregates against pandas and numpy on a dumped table, the bold rule by hand."""

import numpy as np
import pandas as pd
import pytest

from depthlab.analysis.labels import depth_by_label, relations, standing_out, stanford
from depthlab.analysis.tokens import read_tokens, write_tokens
from depthlab.errors import UserError
from tests.analysis.token_tables import two_models


@pytest.fixture(scope="module")
def tokens():
    return two_models()


@pytest.mark.parametrize("label", ["deprel", "upos"])
def test_aggregates_equal_a_computation_on_the_dumped_table(label, tokens, tmp_path):
    write_tokens(tokens, tmp_path / "tokens.parquet")
    read = read_tokens([tmp_path / "tokens.parquet"])
    summary = depth_by_label(read, read[label])
    dumped = pd.read_parquet(tmp_path / "tokens.parquet")
    assert len(summary) == len(dumped.dropna(subset=label).value_counts(["model", label]))
    for row in summary.itertuples():
        of_label = dumped[(dumped.model == row.model) & (dumped[label] == row.label)]
        depths = of_label.depth.to_numpy()
        expected = (len(depths), depths.mean(), depths.std(ddof=1))
        assert (row.pieces, row.mean, row.std) == pytest.approx(expected, nan_ok=True)
        assert row.words == len(set(zip(of_label.sentence, of_label.word, strict=True)))
        assert row.sentences == len(set(of_label.sentence))
        if of_label.document.nunique() < 10:
            assert np.isnan([row.low, row.high]).all()
        else:
            assert row.low < row.mean < row.high
    for _, of_model in summary.groupby("model"):
        assert of_model.pieces.is_monotonic_decreasing
        means = dict(zip(of_model.label, of_model["mean"], strict=True))
        average = sum(means.values()) / len(means)
        deviation = (sum((mean - average) ** 2 for mean in means.values()) / (len(means) - 1)) ** 0.5
        bold = {name for name, mean in means.items() if mean > average + deviation}
        assert bold == set(of_model.label[of_model.stands_out])


def test_models_do_not_mix(tokens):
    """What a model has alone it has beside another, too: intervals and p-values included."""
    summary = depth_by_label(tokens, tokens.upos)
    alone = tokens[tokens.model == "theirs"]
    expected = depth_by_label(alone, alone.upos)
    found = summary[summary.model == "theirs"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)


def test_the_bold_rule_by_hand():
    """The average of 1, 2, 3, 6 is 3 and their deviation the root of 14 / 3, 2.16; 5 and 1 have 3 and 2.83."""
    assert list(standing_out(pd.Series([1.0, 2, 3, 6]))) == [False, False, False, True]
    assert list(standing_out(pd.Series([5.0, 1]))) == [False, False]
    assert list(standing_out(pd.Series([4.0]))) == [False]


def test_a_planted_effect_is_told_from_none(tokens):
    deep = tokens[tokens.model == "ours"]
    deep = deep.assign(depth=deep.depth + 2 * (deep.upos == "VERB"))
    summary = depth_by_label(deep, deep.upos).set_index("label")
    assert summary.p_value["VERB"] < 0.001 and summary.difference["VERB"] == pytest.approx(2, abs=0.6)
    assert depth_by_label(tokens, tokens.upos).p_value.min() > 0.05


def test_relations_lose_their_subtypes():
    table = pd.DataFrame({"deprel": ["nsubj:pass", "nsubj", None, "nmod:poss"]})
    assert relations(table).replace({np.nan: None}).tolist() == ["nsubj", "nsubj", None, "nmod"]


def test_stanford_labels():
    labels = {"obl": "pobj", "obl:agent": "pobj", "nmod": "pobj", "compound": "nn", "case": "prep"}
    labels |= {kept: kept for kept in ("nsubj:pass", "obl:unmarked", "nmod:poss", "compound:prt")}
    assert stanford(pd.DataFrame({"deprel": [*labels]})).tolist() == [*labels.values()]


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_treebank_without_labels(missing, tokens):
    bare = tokens.assign(upos=missing, deprel=missing)
    for name, labels in (("upos", bare.upos), ("deprel", relations(bare)), ("deprel", stanford(bare))):
        with pytest.raises(UserError, match=f"no word has a label in {name}: take a treebank"):
            depth_by_label(bare, labels)
