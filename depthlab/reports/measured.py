"""What one run has measured, as a table in its task's own form."""

from collections.abc import Mapping, Sequence

from depthlab.analysis.scores import SCORES
from depthlab.render.document import Table, dashed, to_markdown
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


def dial_table(points: Sequence[Mapping[str, float]], dial: str) -> str:
    """One checkpoint at many settings of its rule, as Markdown.

    Args:
        points: of each setting, `dial` and what validation measured, by tag.
        dial: the setting's name.
    """
    score = next((tag for tag in ("val/score", "val/accuracy/mlm") if tag in points[0]), "val/loss/total")
    columns = {
        "loss" if "loss" in score else "score (%)": (score, 1.0 if "loss" in score else 100.0, ".2f"),
        "mean depth": ("val/depth/all", 1.0, ".2f"),
        "token-iterations": ("val/token_iterations_per_example", 1.0, ".1f"),
        "layer GFLOPs": ("val/flops_per_example", 1e-9, ".3f"),
        "ms": ("val/seconds_per_example", 1e3, ".2f"),
    }
    rows = [
        [f"{point['dial']:g}", *(dashed(f * point[t], form) if t in point else "-" for t, f, form in columns.values())]
        for point in points
    ]
    caption = "The last three are of an example: what is computed, and the time of the model alone."
    return to_markdown(Table(caption, [dial, *columns], rows))


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
