"""The scores and depths of one fine-tuning run."""

from collections.abc import Mapping

from depthlab.analysis.choice import SCORES

DEPTHS = {"depth/all": "all tokens", "depth/cls": "[CLS]", "depth/sep": "[SEP]", "depth/plain": "plain"}
LABEL = "depth/label/"
MOST_LABELS = 20
"""With more labels (a thousand in one of SentEval's tasks) their depths would bury the scores."""


def scores_table(task: str, values: Mapping[str, float], stage: str = "val") -> str:
    """Scores in percent and mean depths, as Markdown.

    Args:
        task: its name.
        values: what was logged, by tag; what is absent has no row.
        stage: the first part of the tags to show.
    """
    found = {tag.removeprefix(f"{stage}/"): value for tag, value in values.items() if tag.startswith(f"{stage}/")}
    if found.get("glue_score") == found.get("score"):
        found.pop("glue_score", None)
    rows = [(f"{name} (%)", 100 * float(found[tag])) for tag, name in SCORES.items() if tag in found]
    rows += [("loss", float(found["loss/task"]))] if "loss/task" in found else []
    rows += [(f"mean depth, {name}", float(found[tag])) for tag, name in DEPTHS.items() if tag in found]
    labels = [tag for tag in found if tag.startswith(LABEL)]
    labels = labels if len(labels) <= MOST_LABELS else []
    rows += [(f"mean depth where the label is {tag.removeprefix(LABEL)}", float(found[tag])) for tag in labels]
    return "\n".join([f"| {task}, {stage} | |", "|---|---:|", *(f"| {name} | {value:.2f} |" for name, value in rows)])
