"""SentEval's ten probing tasks in small: what the lines of its files look like, with invented sentences."""

from pathlib import Path

from .glue_fixtures import invented, write_tsv

SENTEVALS_LABELS = {
    "subj_number": ("NN", "NNS"),
    "obj_number": ("NN", "NNS"),
    "sentence_length": ("0", "5"),
    "word_content": ("crumbs", "harbour"),
    "tree_depth": ("5", "12"),
    "bigram_shift": ("I", "O"),
    "odd_man_out": ("C", "O"),
    "coordination_inversion": ("I", "O"),
}
ROWS = {
    "tense": invented(("PAST", "PRES")),
    "top_constituents": invented(("NP_VP_.", "VP_.", "WHNP_SQ_.", "OTHER"), rows=12),
    **{name: invented(labels, rows=2) for name, labels in SENTEVALS_LABELS.items()},
}
"""Label and sentence of each task's rows."""
SENTEVALS_NAMES = {name: name for name in ROWS} | {"tense": "past_present"}


def write_probing(root: Path) -> Path:
    """All tasks into a folder; to train, validate and test on are the same rows, the last of them in reverse."""
    for name, rows in ROWS.items():
        lines = [(side, *row) for side in ("tr", "va") for row in rows] + [("te", *row) for row in rows[::-1]]
        write_tsv(root / f"{SENTEVALS_NAMES[name]}.txt", lines)
    return root
