"""What one run has measured, as a table in its task's own form."""

from collections.abc import Mapping
from typing import Any

from depthlab.render.document import to_markdown
from depthlab.reports.classification import scores_table
from depthlab.reports.pretraining import table_1


def measured_table(values: Mapping[str, Any], name: str, stage: str = "val") -> str:
    """Scores and depths of a classifier, or the paper's Table 1 of a language model, as Markdown.

    Args:
        values: by tag, those of other stages too.
        name: of the task, where it is one of several.
        stage: the first part of the tags to show.
    """
    if f"{stage}/accuracy/mlm" in values:
        return to_markdown(table_1({"this run": values}))
    return scores_table(name, values, stage)
