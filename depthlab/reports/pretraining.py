"""The paper's Table 1, for pre-training runs, and what of it each source has."""

import math
from collections.abc import Mapping

from depthlab.kinds import bound_of
from depthlab.render.document import Table, with_bounds

ROWS: dict[str, tuple[str, float]] = {  # name in the table: tag, and the factor to the table's unit
    "MLM accuracy (%)": ("accuracy/mlm", 100.0),
    "... at MASK/MASK": ("accuracy/mlm_mask_mask", 100.0),
    "... at MASK/random": ("accuracy/mlm_mask_random", 100.0),
    "... at MASK/original": ("accuracy/mlm_mask_original", 100.0),
    "SOP accuracy (%)": ("accuracy/sop", 100.0),
    "mean depth, all tokens": ("depth/all", 1.0),
    "all unmasked tokens": ("depth/unmasked", 1.0),
    "MASK/MASK": ("depth/mask_mask", 1.0),
    "MASK/random": ("depth/mask_random", 1.0),
    "MASK/original": ("depth/mask_original", 1.0),
    "[CLS]": ("depth/cls", 1.0),
    "[SEP]": ("depth/sep", 1.0),
    "plain": ("depth/plain", 1.0),
    "MASK/MASK and MASK/random (the authors' row)": ("depth/mask_replaced", 1.0),
    "MLM loss (nats)": ("loss/mlm", 1.0),
    "unigram entropy of the predicted tokens (nats)": ("unigram_entropy", 1.0),
    "documents": ("documents/seen", 1.0),
    "effective number of documents": ("documents/effective", 1.0),
}
COLUMNS = ("accuracy/mlm", "accuracy/mlm_mask_mask", "accuracy/mlm_mask_original", "loss/mlm", "accuracy/sop")
PARTS = {"val": "development", "test": "test"}
"""What the documents of a stage are called."""
FORMS = {"documents/seen": ",.0f", "documents/effective": ",.1f"}

PAPER: dict[str, tuple[float, ...]] = {  # tiny, small, base: Simoulin & Crabbé 2021, Table 1
    "accuracy/mlm": (55.4, 57.1, 57.4),
    "accuracy/sop": (80.9, 83.9, 84.3),
    "depth/all": (3.8, 7.1, 10.0),
    "depth/unmasked": (3.5, 6.5, 9.2),
    "depth/mask_mask": (5.8, 10.9, 16.0),
    "depth/mask_replaced": (5.8, 10.9, 16.0),
    "depth/mask_original": (4.0, 7.4, 10.5),
    "depth/cls": (6.0, 12.0, 22.5),
    "depth/sep": (2.5, 7.6, 8.4),
}


def table_1(runs: Mapping[str, Mapping[str, float]], stage: str = "val") -> Table:
    """The table, on the held-out documents, the runs side by side and beside the paper's models.

    Args:
        runs: by name, what an evaluation logged: `val/accuracy/mlm` and so on. What has no value is a dash.
        stage: `val` for the documents for development, `test` for those for the test.
    """
    rows = []
    for name, (tag, factor) in ROWS.items():
        papers = [f"{number:.1f}" for number in PAPER[tag]] if tag in PAPER else ["-"] * 3
        rows.append([name, *(_cell(values, f"{stage}/", tag, factor) for values in runs.values()), *papers])
    caption = (
        f"On the {PARTS[stage]} documents of each run; mean depths are iterations per token; 95 % intervals are over "
        "documents, where those were logged. MASK/original is a token that the model sees, and only has to copy. The "
        "effective number of documents is that of equally long ones which would leave as much to chance: the fewer, "
        "the less an interval is to be relied on. The paper's numbers: Simoulin and Crabbé 2021, Table 1, on their own "
        "held-out data."
    )
    return Table(caption, [f"{PARTS[stage]} documents", *runs, "paper: tiny", "small", "base"], rows)


def by_source(values: Mapping[str, float], stage: str = "val") -> Table | None:
    """The language model's accuracies and losses on each source of the corpus, and in all; None for a single one.

    Args:
        values: as of a run in `table_1`.
        stage: likewise.
    """
    start = f"{stage}/source/"
    sources = dict.fromkeys(tag.removeprefix(start).partition("/")[0] for tag in values if tag.startswith(start))
    if not sources:
        return None
    names = {tag: name for name, (tag, _) in ROWS.items()}
    header = ["MLM accuracy (%)", "at MASK/MASK", "at MASK/original", *(names[tag] for tag in COLUMNS[3:])]
    tags = (*COLUMNS, *FORMS)
    rows = [
        [source, *(_cell(values, prefix, tag, 100.0 if tag.startswith("accuracy") else 1.0) for tag in tags)]
        for source, prefix in {**{source: f"{start}{source}/" for source in sources}, "all": f"{stage}/"}.items()
    ]
    caption = f"On the {PARTS[stage]} documents, by source, with 95 % intervals over documents where there are ten."
    return Table(caption, ["source", *header, "documents", "effective"], rows)


def _cell(values: Mapping[str, float], prefix: str, tag: str, factor: float) -> str:
    value = values.get(f"{prefix}{tag}")
    if value is None:
        return "-"
    low, high = (values.get(f"{prefix}{bound_of(tag, bound)}", math.nan) for bound in ("low", "high"))
    return with_bounds(float(value) * factor, float(low) * factor, float(high) * factor, FORMS.get(tag, ".2f"))
