"""What of a table of tokens is independent: its documents, or its sentences where all are of one."""

import pandas as pd


def clusters(rows: pd.DataFrame) -> pd.Series:
    """The document of each row, by its name; the sentence, where the table of one model has but one document.

    Sentences of a document have their topic and writer in common: resampled by sentence, intervals are too narrow.
    """
    return rows[clustered_by(rows)]


def clustered_by(rows: pd.DataFrame) -> str:
    """`document` or `sentence`."""
    return "document" if rows.document.nunique() > 1 else "sentence"
