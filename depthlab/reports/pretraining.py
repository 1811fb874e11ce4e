"""The paper's Table 1 for one pre-training run."""

from collections.abc import Mapping

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


def table_1(values: Mapping[str, float]) -> str:
    """The table, as Markdown, on the held-out documents, beside the paper's models.

    Depths have their 95 % intervals over documents where those were logged.

    Args:
        values: what validation logged: `val/accuracy/mlm` and so on. Rows without a value show a dash.
    """
    lines = ["| held-out documents | this run | paper: tiny | small | base |", "|---|---:|---:|---:|---:|"]
    for name, (tag, factor) in ROWS.items():
        value = values.get(f"val/{tag}")
        ours = "-" if value is None else f"{float(value) * factor:.2f}"
        bounds = [values.get(f"val/{tag.replace('depth/', f'depth_{bound}/')}") for bound in ("low", "high")]
        if tag.startswith("depth/") and None not in bounds:
            ours += " [{:.2f}, {:.2f}]".format(*map(float, bounds))
        papers = [f"{number:.1f}" for number in PAPER[tag]] if tag in PAPER else ["-"] * 3
        lines.append(f"| {name} | {ours} | {' | '.join(papers)} |")
    return "\n".join(lines)
