"""What one run has measured, as a table in its task's own form."""

from collections.abc import Mapping

from depthlab.analysis.scores import SCORES
from depthlab.render.document import to_markdown
from depthlab.reports.pretraining import by_source, table_1

DEPTHS = {"depth/all": "all tokens", "depth/cls": "[CLS]", "depth/sep": "[SEP]", "depth/plain": "plain"}
LABEL = "depth/label/"
MOST_LABELS = 20
"""With more labels (a thousand in one of SentEval's tasks) their depths would bury the scores."""


def measured_table(
    values: Mapping[str, float], name: str, stage: str = "val", beside: Mapping[str, Mapping[str, float]] | None = None
) -> str:
    """Scores and depths of a classifier, or the paper's Table 1 of a language model and its sources, as Markdown.

    Args:
        values: by tag, those of other stages too.
        name: of the task, where it is one of several.
        stage: the first part of the tags to show.
        beside: such values of other language models, by name, for columns beside Table 1's own.
    """
    if f"{stage}/accuracy/mlm" in values:
        tables = table_1({"this run": values} | (beside or {}), stage), by_source(values, stage)
        return "\n\n".join(to_markdown(table) for table in tables if table is not None)
    return scores_table(name, values, stage)


def scores_table(task: str, values: Mapping[str, float], stage: str = "val") -> str:
    """Scores in percent and mean depths, as Markdown; what is absent has no row."""
    found = {tag.removeprefix(f"{stage}/"): value for tag, value in values.items() if tag.startswith(f"{stage}/")}
    if found.get("glue_score") == found.get("score"):
        found.pop("glue_score", None)
    rows = [(f"{name} (%)", 100 * float(found[tag])) for tag, name in SCORES.items() if tag in found]
    rows += [("loss", float(found["loss/task"]))] if "loss/task" in found else []
    rows += [(f"mean depth, {name}", float(found[tag])) for tag, name in DEPTHS.items() if tag in found]
    labels = [tag for tag in found if tag.startswith(LABEL)]
    if len(labels) <= MOST_LABELS:
        rows += [(f"mean depth where the label is {tag.removeprefix(LABEL)}", float(found[tag])) for tag in labels]
    return "\n".join([f"| {task}, {stage} | |", "|---|---:|", *(f"| {name} | {value:.2f} |" for name, value in rows)])
