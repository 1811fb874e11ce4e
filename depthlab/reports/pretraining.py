"""The paper's Table 1, for pre-training runs."""

from collections.abc import Mapping

from depthlab.render.document import Table, with_bounds

ROWS: dict[str, tuple[str, float]] = {  # name in the table: tag, and the factor to the table's unit
    "MLM accuracy (%)": ("accuracy/mlm", 100.0),
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
}

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


def table_1(runs: Mapping[str, Mapping[str, float]]) -> Table:
    """The table, on the held-out documents, the runs side by side and beside the paper's models.

    Args:
        runs: by name, what validation logged: `val/accuracy/mlm` and so on. What has no value is a dash.
    """
    rows = []
    for name, (tag, factor) in ROWS.items():
        papers = [f"{number:.1f}" for number in PAPER[tag]] if tag in PAPER else ["-"] * 3
        rows.append([name, *(_cell(values, tag, factor) for values in runs.values()), *papers])
    caption = (
        "On the held-out documents of each run; mean depths are iterations per token, with 95 % intervals over "
        "documents where those were logged. The paper's numbers: Simoulin and Crabbé 2021, Table 1, on their own "
        "held-out data."
    )
    return Table(caption, ["held-out documents", *runs, "paper: tiny", "small", "base"], rows)


def _cell(values: Mapping[str, float], tag: str, factor: float) -> str:
    value = values.get(f"val/{tag}")
    if value is None:
        return "-"
    bounds = [values.get(f"val/{tag.replace('depth/', f'depth_{bound}/')}") for bound in ("low", "high")]
    low, high = bounds if tag.startswith("depth/") else (None, None)
    return with_bounds(float(value) * factor, low, high, ".2f")
