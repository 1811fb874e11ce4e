"""Tables of depth by label: models side by side, and the paper's Table 3 beside ours."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from depthlab.analysis.labels import STANFORD, depth_by_label, most_frequent, relations, standing_out
from depthlab.analysis.permutation import PERMUTATIONS
from depthlab.render.document import Document, Strong, Table, dashed, p_value, with_bounds

MOST_BESIDE = 4
"""Models that tables show side by side; with more, they are below each other for every label."""

PROBING = ("Tense", "SubjNum", "ObjNum", "TopConst")
PAPER: dict[str, tuple[int, tuple[float, ...]]] = {
    "punct": (121_000, (5.0, 4.8, 5.2, 6.7)),
    "prep": (101_000, (4.6, 4.6, 5.4, 6.2)),
    "pobj": (98_000, (4.5, 4.6, 5.4, 5.8)),
    "det": (86_000, (4.5, 4.6, 5.1, 6.1)),
    "nn": (81_000, (5.1, 5.4, 5.8, 6.7)),
    "nsubj": (80_000, (5.3, 6.1, 5.9, 7.5)),
    "amod": (66_000, (4.6, 4.9, 5.5, 6.1)),
    "dobj": (49_000, (4.8, 5.0, 5.9, 6.1)),
    "root": (44_000, (5.9, 6.1, 6.2, 7.9)),
    "advmod": (37_000, (4.8, 4.8, 5.3, 6.8)),
}
"""Simoulin & Crabbé 2021, Table 3, by Stanford's label: tokens, and the mean depth of the model of each of PROBING."""
PAPER_MEANS = (5.4, 5.4, 5.8, 7.2)
PAPER_BOLD: dict[str, tuple[str, ...]] = {
    "nn": ("ObjNum",),
    "nsubj": PROBING,
    "dobj": ("ObjNum",),
    "root": PROBING,
}
"""As printed."""


def predicted_document(table: pd.DataFrame, counts: Mapping[str, int]) -> Document:
    """What a model has just done with a treebank: depths by relation and by part of speech, and what they are of.

    Args:
        table: as :class:`depthlab.callbacks.TokenTable` makes it, of one model.
        counts: of sentences and words, by what they are.
    """
    counted = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    title = f"{table['model'].iloc[0]}: mean depth {table['depth'].mean():.2f}"
    labels = {"relation": relations(table), "part of speech": table["upos"]}
    tables = (label_table(depth_by_label(table, values), name) for name, values in labels.items())
    return Document(title, [f"{counted}.", *tables])


def label_table(summary: pd.DataFrame, name: str) -> Table:
    """The most frequent labels of what :func:`depth_by_label` makes, the models side by side."""
    columns = ["pieces", "mean depth", "std", "from the rest", "p"]
    shown, known = len(most_frequent(summary)), summary.label.nunique()
    caption = (
        f"Iterations of the pieces of words by {name}, the {shown} most frequent of {known}; "
        "every piece of a word counts for the word's label. In brackets: 95 % interval from the bootstrap over "
        "documents, over sentences where there is but one document. Std: of the pieces. Bold: the label's mean is over "
        "the average of the means of all labels, shown or not, frequent or rare, by more than the standard deviation "
        "of these means. From the rest: how many iterations deeper its pieces are than the other pieces of the same "
        "sentence. p: of that difference, in "
        f"{PERMUTATIONS:,} permutations of labels among the words of a sentence, corrected for all labels of the model "
        "(max-T); up to 0.05 the difference survives."
    )
    return compare(caption, name, columns, summary, _cells)


def compare(
    caption: str, name: str, columns: Sequence[str], rows: pd.DataFrame, write: Callable[[pd.Series], list[str]]
) -> Table:
    """The most frequent labels, models side by side if they are few, else below each other for every label.

    Args:
        caption: of the table.
        name: what the labels are: "relation", "part of speech".
        columns: what there is of each label and model.
        rows: of each label and model, with their pieces.
        write: a row's cells, as many as there are columns; where there is no row they are dashes.
    """
    tables = {model: of_model.set_index("label") for model, of_model in rows.groupby("model", sort=False)}
    labels = most_frequent(rows)

    def cells(label: str, model: str) -> list[str]:
        return write(tables[model].loc[label]) if label in tables[model].index else ["-"] * len(columns)

    if len(tables) > MOST_BESIDE:
        below = [
            ["" if number else label, model, *cells(label, model)]
            for label in labels
            for number, model in enumerate(tables)
        ]
        return Table(caption, [name, "model", *columns], below, left=2)
    header = [text for model in tables for text in (f"{model}: {columns[0]}", *columns[1:])]
    beside = [[label, *(cell for model in tables for cell in cells(label, model))] for label in labels]
    return Table(caption, [name, *header], beside)


def paper_table(summary: pd.DataFrame, columns: Mapping[str, Sequence[str]] | None = None) -> Table:
    """The paper's Table 3 beside ours.

    Args:
        summary: as :func:`depth_by_label` makes it, of the labels of :func:`~depthlab.analysis.labels.stanford`.
        columns: the models behind each of our columns, by its heading; those of one column are runs that differ in
            their seed, say. By default each model has a column.
    """
    columns = columns or {model: [model] for model in dict.fromkeys(summary.model)}
    pooled = {heading: _pooled(summary[summary.model.isin(models)]) for heading, models in columns.items()}
    rows = []
    for label, (tokens, means) in PAPER.items():
        became = ", ".join(STANFORD[label])
        ours = [_mean(table.loc[label]) if label in table.index else "-" for table in pooled.values()]
        bold = PAPER_BOLD.get(label, ())
        theirs = [(Strong if task in bold else str)(f"{mean:.1f}") for task, mean in zip(PROBING, means, strict=True)]
        rows.append([label if became == label else f"{label} ({became})", *ours, f"{tokens // 1000}k", *theirs])
    ours = [f"{(table.total.sum() / table.pieces.sum()):.2f}" for table in pooled.values()]
    rows.append(["mean", *ours, "", *(f"{mean:.1f}" for mean in PAPER_MEANS)])
    caption = (
        "Mean iterations of the pieces of words by Stanford's labels and, in brackets, what they became in Universal "
        "Dependencies. Behind a mean of one run: the 95 % interval as above; of several: the "
        "lowest and highest of the runs. Bold of ours: over the average of the means of all labels of the treebank, "
        "these and others, by more than their standard deviation; the paper's is as printed. The paper's models are "
        "fine-tuned on the probing task named and read the Penn Treebank (Simoulin and Crabbé 2021, Table 3); the mean "
        "of ours is over all pieces, what the paper's is over is not said."
    )
    return Table(caption, ["label", *columns, "tokens", *(f"paper: {task}" for task in PROBING)], rows)


def published() -> pd.DataFrame:
    """The paper's Table 3: columns model ("paper: Tense"), label, pieces, mean and stands_out, as printed."""
    rows = [
        (f"paper: {task}", label, tokens, mean, task in PAPER_BOLD.get(label, ()))
        for label, (tokens, means) in PAPER.items()
        for task, mean in zip(PROBING, means, strict=True)
    ]
    return pd.DataFrame(rows, columns=["model", "label", "pieces", "mean", "stands_out"])


def _cells(found: pd.Series) -> list[str]:
    return [
        f"{found.pieces:,}",
        _mean(found),
        dashed(found["std"], ".2f"),
        dashed(found.difference, "+.2f"),
        p_value(found.p_value),
    ]


def _pooled(summary: pd.DataFrame) -> pd.DataFrame:
    """By label, over runs: mean, low, high, stands_out; pieces, and total, the iterations of them."""
    by_label = summary.assign(total=summary["mean"] * summary.pieces).groupby("label")
    pooled = by_label["mean"].agg(mean="mean", low="min", high="max").join(by_label[["pieces", "total"]].sum())
    if summary.model.nunique() == 1:
        pooled[["low", "high"]] = by_label[["low", "high"]].first()
    return pooled.assign(stands_out=standing_out(pooled["mean"]))


def _mean(found: pd.Series) -> str:
    cell = with_bounds(found["mean"], found.low, found.high, ".2f")
    return Strong(cell) if found.stands_out else cell
