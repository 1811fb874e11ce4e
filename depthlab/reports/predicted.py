"""What a model has just done with the words of a treebank, as a page in short."""

from collections.abc import Mapping

import pandas as pd

from depthlab.analysis.labels import depth_by_label, relations
from depthlab.render.document import Document
from depthlab.reports.labels import label_table


def predicted_document(table: pd.DataFrame, counts: Mapping[str, int]) -> Document:
    """Depths by relation and by part of speech, and what they are of.

    Args:
        table: as :class:`depthlab.callbacks.TokenTable` makes it, of one model.
        counts: of sentences and words, by what they are.
    """
    counted = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    title = f"{table['model'].iloc[0]}: mean depth {table['depth'].mean():.2f}"
    labels = {"relation": relations(table), "part of speech": table["upos"]}
    tables = (label_table(depth_by_label(table, values), name) for name, values in labels.items())
    return Document(title, [f"{counted}.", *tables])
