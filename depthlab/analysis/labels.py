"""Depth by dependency relation and by part of speech, with intervals and a test."""

import pandas as pd

from depthlab.analysis.clusters import depth_bounds
from depthlab.analysis.permutation import permute_labels
from depthlab.errors import UserError

FREQUENT = 10
"""Labels that tables show, as in the paper's."""

STANFORD: dict[str, tuple[str, ...]] = {
    "punct": ("punct",),
    "prep": ("case",),
    "pobj": ("obl", "obl:agent", "nmod"),
    "det": ("det",),
    "nn": ("compound",),
    "nsubj": ("nsubj",),
    "amod": ("amod",),
    "dobj": ("obj",),
    "root": ("root",),
    "advmod": ("advmod",),
}
"""The paper's ten labels, of Stanford dependencies, and the relations of Universal Dependencies that they became.

Subtypes are labels of their own in Stanford's: `nmod:poss` is poss, `nsubj:pass` nsubjpass, `compound:prt` prt.
"""


def without_subtype(relation: str) -> str:
    """`nsubj:pass` is an nsubj, as `nsubj` is."""
    return relation.partition(":")[0]


def relations(tokens: pd.DataFrame) -> pd.Series:
    """Relations without their subtypes."""
    return tokens.deprel.map(without_subtype, na_action="ignore")


def stanford(tokens: pd.DataFrame) -> pd.Series:
    """The paper's label where a relation became one of its ten (:data:`STANFORD`), the relation itself elsewhere."""
    names = {relation: label for label, became in STANFORD.items() for relation in became}
    return tokens.deprel.map(lambda relation: names.get(relation, relation), na_action="ignore")


def depth_by_label(tokens: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Depths of the pieces of each label, in each model.

    Args:
        tokens: as :mod:`depthlab.analysis.tokens` has them.
        labels: of the rows of `tokens`, the same for all pieces of a word: its `upos`, `relations` or `stanford`. Words
            without a label are left out.

    Returns:
        A row for every model and label, the label with most pieces first: columns model and label; sentences, words and
        pieces, how many; mean and std of the depth of the pieces (iterations); low and high, the 95 % interval of the
        mean from the bootstrap over :func:`~depthlab.analysis.clusters.clustered_by`; stands_out, as
        :func:`standing_out`; difference (iterations) and p_value, as
        :func:`~depthlab.analysis.permutation.permute_labels`.

    Raises:
        UserError: No word has a label.
    """
    rows = tokens[["model", "document", "sentence", "word", "depth"]].assign(label=labels).dropna(subset="label")
    if rows.empty:
        raise UserError(f"no word has a label in {labels.name}: take a treebank that is annotated with it")
    models = rows.groupby("model", sort=False)
    return pd.concat([_of_model(of_model).assign(model=model) for model, of_model in models], ignore_index=True)


def _of_model(rows: pd.DataFrame) -> pd.DataFrame:
    by_word = rows.groupby(["sentence", "word"], as_index=False)
    words = by_word.agg(label=("label", "first"), depth=("depth", "sum"), pieces=("depth", "size"))
    by_label = rows.groupby("label")
    summary = pd.DataFrame({"sentences": by_label.sentence.nunique(), "words": words.groupby("label").size()})
    summary = summary.join(by_label.depth.agg(pieces="size", mean="mean", std="std"))
    summary[["low", "high"]] = depth_bounds(rows, "label")
    summary["stands_out"] = standing_out(summary["mean"])
    number = summary.index.get_indexer(words.label)
    test = permute_labels(words.sentence.to_numpy(), number, words.depth.to_numpy(), words.pieces.to_numpy())
    summary["difference"], summary["p_value"] = test
    return summary.sort_values("pieces", ascending=False, kind="stable").reset_index()


def standing_out(means: pd.Series) -> pd.Series:
    """The paper's rule for bold: a label's mean is over the average of all labels' means by more than their deviation.

    Every label counts once, however rare it is; the standard deviation is that of a sample (n - 1).
    """
    return means > means.mean() + means.std()


def most_frequent(table: pd.DataFrame) -> list[str]:
    """The labels with most pieces, over all models, of a table with a row for every model and label."""
    return table.groupby("label").pieces.sum().sort_values(ascending=False, kind="stable").index[:FREQUENT].tolist()
