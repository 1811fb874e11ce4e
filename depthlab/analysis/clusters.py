"""What of a table of tokens is independent: its documents, or its sentences where all are of one."""

import numpy as np
import pandas as pd

from depthlab.metrics import bootstrap_intervals


def clustered_by(rows: pd.DataFrame) -> str:
    """`document`, or `sentence` where the table of one model has but one document.

    Sentences of a document have their topic and writer in common: resampled by sentence, intervals are too narrow.
    """
    return "document" if rows.document.nunique() > 1 else "sentence"


def depth_bounds(rows: pd.DataFrame, group: str) -> np.ndarray:
    """The 95 % interval of the mean depth of each group, in their order, from the bootstrap over clusters: [G, 2].

    Args:
        rows: of one model, as :mod:`depthlab.analysis.tokens` has them.
        group: the column that says of which group a row is.
    """
    cells = rows.groupby([rows[clustered_by(rows)].rename("cluster"), group])
    cells = cells.depth.agg(["sum", "size"]).unstack(fill_value=0)
    return bootstrap_intervals(cells["sum"].to_numpy(), cells["size"].to_numpy())
