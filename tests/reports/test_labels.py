"""The tables of depth by label: what stands in their cells, and the paper's beside ours."""

import re

import pandas as pd
import pytest

from depthlab.analysis.labels import STANFORD, depth_by_label, relations, stanford
from depthlab.render.document import Document, Strong, with_bounds
from depthlab.reports.labels import PAPER, PAPER_BOLD, label_table, paper_table, published
from tests.analysis.token_tables import two_models


@pytest.fixture(scope="module")
def tokens():
    return two_models()


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
    assert all((label in universal) == (label in relations_) for label, relations_ in STANFORD.items())


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
            assert row[start] == with_bounds(found["mean"], found.low, found.high, ".2f")
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
    assert rows["root"][3:] == ["44k", "5.9", "6.1", "6.2", "7.9"]
    assert all(isinstance(cell, Strong) for cell in rows["root"][4:])
    assert re.search(r"\| nsubj +\| .+ 80k \| +\*\*5\.3\*\* \| +\*\*6\.1\*\* \| +\*\*5\.9\*\* \| +\*\*7\.5", markdown)
    assert re.search(r"\| nn \(compound\) +\| .+ 81k \| +5\.1 \| +5\.4 \| +\*\*5\.8\*\* \| +6\.7 \|", markdown)
    assert paper_table(summary).header[1:3] == ["ours", "theirs"]


def test_published():
    table = published().pivot(index="label", columns="model", values="mean")
    assert table.loc["advmod", "paper: TopConst"] == 6.8 and table.shape == (10, 4)
    assert published().stands_out.sum() == 10
