"""What adaptive depth gains or costs: every model less each fixed depth, seeds paired, with intervals."""

from collections.abc import Mapping, Sequence

import pandas as pd

from depthlab.analysis.differences import FEWEST_SEEDS, paired_differences
from depthlab.analysis.names import Settings, natural_order
from depthlab.render.document import Block, Heading, Table, with_bounds


def difference_blocks(
    scores: pd.DataFrame, names: Sequence[str], models: Sequence[Settings], tasks: Mapping[str, str]
) -> list[Block]:
    """A heading and a table; nothing where no model has a fixed depth, or none other shares a seed with one.

    Args:
        scores: As :func:`paired_differences` takes them, in percent.
        names: Of models.
        models: What they are, as many.
        tasks: By task, what to call it; in the order of the rows.
    """
    is_fixed = {
        name: model.get("rule", model.get("halting")) == "fixed" for name, model in zip(names, models, strict=True)
    }
    found = paired_differences(scores, [name for name, fixed in is_fixed.items() if fixed]).dropna(subset="difference")
    if found.empty:
        return []
    references = sorted(set(found.reference), key=natural_order)
    cells = {(row.task, row.model, row.reference): _cell(row) for row in found.itertuples()}
    rows = []
    for task in (task for task in tasks if task in set(found.task)):
        for number, model in enumerate(sorted(set(found[found.task == task].model), key=natural_order)):
            by_reference = [cells.get((task, model, reference), "-") for reference in references]
            rows.append(["" if number else tasks[task], model, *by_reference])
    caption = (
        "Points by which a model's score is over that of the fixed depth above the column: the mean of the differences "
        "between runs of one seed, in brackets its 95 % interval (Student's t; none below "
        f"{FEWEST_SEEDS} seeds), in parentheses the seeds that both have. Where the interval holds 0, the runs do not "
        "tell which is better. It is of chance in training alone: other examples would add their own, one standard "
        "error of an accuracy of 80 % being 1.4 points on 872 of them, 2.4 on 277. A fixed depth that starts from "
        "weights which were trained adaptively is not what training at fixed depth would have given."
    )
    return [Heading("Differences from fixed depth"), Table(caption, ["task", "less", *references], rows, left=2)]


def _cell(row: tuple) -> str:
    return f"{with_bounds(row.difference, row.low, row.high, '+.1f')} ({row.seeds})"
