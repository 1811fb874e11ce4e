"""Depth by label: aggregates against pandas and numpy on a dumped table, the bold rule by hand, the tables."""

import re

import numpy as np
import pandas as pd
import pytest

from depthlab.analysis.labels import STANFORD, depth_by_label, relations, standing_out, stanford
from depthlab.analysis.tokens import read_tokens, write_tokens
from depthlab.errors import UserError
from depthlab.render.document import Document, Strong
from depthlab.reports.labels import PAPER, PAPER_BOLD, label_table, paper_table, published
from tests.analysis.token_tables import token_table


@pytest.fixture(scope="module")
def tokens():
    tables = [token_table(seed, model=model) for seed, model in enumerate(("ours", "theirs"))]
    together = pd.concat(tables, ignore_index=True)
    together.loc[together.sentence == 3, ["upos", "deprel"]] = None
    return together


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
    relation = [
        "nsubj:pass",
        "obl",
        "obl:agent",
        "obl:unmarked",
        "nmod",
        "nmod:poss",
        "compound",
        "compound:prt",
        "case",
    ]
    label = ["nsubj:pass", "pobj", "pobj", "obl:unmarked", "pobj", "nmod:poss", "nn", "compound:prt", "prep"]
    assert stanford(pd.DataFrame({"deprel": relation})).tolist() == label


def test_the_map_is_complete():
    """Every label of the paper became something, no relation is two labels, and no other relation has such a name."""
    became = [relation for relations_ in STANFORD.values() for relation in relations_]
    assert list(STANFORD) == list(PAPER) and len(set(became)) == len(became)
    assert set(PAPER_BOLD) <= set(PAPER)
    universal = re.split(
        r"\s+",
        "acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det discourse dislocated expl "
        "fixed flat goeswith iobj list mark nmod nsubj nummod obj obl orphan parataxis punct reparandum root vocative "
        "xcomp",
    )
    assert {relation.partition(":")[0] for relation in became} <= set(universal)
    assert {label for label in STANFORD if label in universal} == {
        label for label, relations_ in STANFORD.items() if label in relations_
    }


def test_the_table(tokens):
    changed = tokens[(tokens.model == "ours") | (tokens.deprel != "nsubj:pass")]
    summary = depth_by_label(changed, changed.deprel)
    table = label_table(summary, "relation")
    counts = changed.dropna(subset="deprel").groupby("deprel").size()
    assert len(table.rows) == 10 and {row[0] for row in table.rows} == set(counts.nlargest(10).index)
    assert table.header[1:6] == ["ours: pieces", "mean depth", "std", "from the rest", "p"]
    assert table.header[6:] == ["theirs: pieces", "mean depth", "std", "from the rest", "p"]
    for row in table.rows:
        for start, model in ((2, "ours"), (7, "theirs")):
            found = summary[(summary.model == model) & (summary.label == row[0])].squeeze()
            if found.empty:
                assert row[0] == "nsubj:pass" and model == "theirs" and row[start - 1 : start + 4] == ["-"] * 5
                continue
            assert row[start - 1] == f"{found.pieces:,}"
            assert row[start] == f"{found['mean']:.2f} [{found.low:.2f}, {found.high:.2f}]"
            assert isinstance(row[start], Strong) == found.stands_out
            assert row[start + 1 : start + 3] == [f"{found['std']:.2f}", f"{found.difference:+.2f}"]
    assert "the 10 most frequent of 13" in table.caption and "standard deviation of these means" in table.caption
    assert "| relation " in Document("depth", [table]).to_markdown()


def test_many_models_are_below_each_other(tokens):
    ours = tokens[tokens.model == "ours"]
    summary = depth_by_label(ours, relations(ours))
    many = pd.concat([summary.assign(model=f"{model}{number}") for number in range(3) for model in ("a", "b")])
    table = label_table(many, "relation")
    assert table.header == ["relation", "model", "pieces", "mean depth", "std", "from the rest", "p"]
    assert len(table.rows) == 10 * 6 and [row[1] for row in table.rows[:6]] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [bool(row[0]) for row in table.rows] == [True, *[False] * 5] * 10
    first, second = label_table(summary, "relation").rows[0], table.rows[0]
    assert second[0] == first[0] and len(second) == 7


def test_the_papers_table(tokens):
    summary = depth_by_label(tokens, stanford(tokens))
    table = paper_table(summary, {"tense, two seeds": ["ours", "theirs"], "ours": ["ours"]})
    markdown = Document("depth", [table]).to_markdown()
    assert table.header[:4] == ["label", "tense, two seeds", "ours", "tokens"]
    rows = {row[0].split()[0]: row for row in table.rows}
    assert list(rows) == [*PAPER, "mean"]
    assert rows["pobj"][0] == "pobj (obl, obl:agent, nmod)" and rows["punct"][0] == "punct"
    is_object = tokens.deprel == "obj"
    one, other = (tokens.depth[is_object & (tokens.model == model)].mean() for model in ("ours", "theirs"))
    low, high = sorted([one, other])
    assert rows["dobj"][1] == f"{(one + other) / 2:.2f} [{low:.2f}, {high:.2f}]"
    found = summary[(summary.model == "ours") & (summary.label == "dobj")].squeeze()
    assert rows["dobj"][2] == f"{one:.2f} [{found.low:.2f}, {found.high:.2f}]"
    assert rows["nn"][1] == "-"  # the treebank has none
    labelled = tokens.dropna(subset="deprel")
    assert rows["mean"][2] == f"{labelled.depth[labelled.model == 'ours'].mean():.2f}"
    assert rows["root"][3:] == ["44k", "5.9", "6.1", "6.2", "7.9"] and all(
        isinstance(c, Strong) for c in rows["root"][4:]
    )
    assert re.search(
        r"\| nsubj +\| .+ 80k \| +\*\*5\.3\*\* \| +\*\*6\.1\*\* \| +\*\*5\.9\*\* \| +\*\*7\.5\*\* \|", markdown
    )
    assert re.search(r"\| nn \(compound\) +\| .+ 81k \| +5\.1 \| +5\.4 \| +\*\*5\.8\*\* \| +6\.7 \|", markdown)
    assert paper_table(summary).header[1:3] == ["ours", "theirs"]


def test_published():
    table = published().pivot(index="label", columns="model", values="mean")
    assert table.loc["advmod", "paper: TopConst"] == 6.8 and table.shape == (10, 4)
    assert published().stands_out.sum() == 10


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_treebank_without_labels(missing, tokens):
    bare = tokens.assign(upos=missing, deprel=missing)
    for name, labels in (("upos", bare.upos), ("deprel", relations(bare)), ("deprel", stanford(bare))):
        with pytest.raises(UserError, match=f"no word has a label in {name}: take a treebank"):
            depth_by_label(bare, labels)
