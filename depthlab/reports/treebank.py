"""Depth by dependency relation and by part of speech."""

import pandas as pd

from depthlab.reports.document import Table, dashed

FREQUENT = 10
"""Labels that are shown, as in the paper's Table 3."""


def depth_table(rows: pd.DataFrame, label: str) -> Table:
    """The most frequent labels and the depths of their pieces.

    Args:
        rows: a row for each piece of a word, with its `depth`.
        label: the column to group by; pieces without a label are left out.
    """
    depths = (
        rows.groupby(label)["depth"].agg(["size", "mean", "std"]).sort_values("size", ascending=False, kind="stable")
    )
    shown = depths.head(FREQUENT)
    cells = [
        (name, f"{row['size']:,.0f}", dashed(row["mean"], ".2f"), dashed(row["std"], ".2f"))
        for name, row in shown.iterrows()
    ]
    caption = (
        f"Iterations of the pieces of words by {label}: the {len(shown)} most frequent of {len(depths)}. Every piece "
        "of a word counts for the word's label."
    )
    return Table(caption, (label, "pieces", "mean depth", "std"), cells)
