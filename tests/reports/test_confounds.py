"""The tables of what is left of labels' effects, and of the confounds' own."""

import re
from itertools import product

import numpy as np

from depthlab.analysis.confounds import label_effects
from depthlab.render.document import Document
from depthlab.reports.confounds import effects_table, slopes_table
from tests.analysis.token_tables import planted_models


def test_the_tables():
    two_models = planted_models()
    effects = label_effects(two_models, two_models.upos)
    assert effects.fits.model.tolist() == ["ours", "theirs"]
    table = effects_table(effects, "part of speech")
    columns = ["ours: alone", "held", "left (%)", "theirs: alone", "held", "left (%)"]
    assert table.header == ["part of speech", *columns]
    rows = {row[0]: row for row in table.rows}
    for label, (model, start) in product(rows, (("ours", 1), ("theirs", 4))):
        cells = rows[label][start : start + 3]
        found = effects.labels[(effects.labels.model == model) & (effects.labels.label == label)].squeeze()
        assert cells[0] == f"{found.alone:+.2f} [{found.alone_low:+.2f}, {found.alone_high:+.2f}]"
        assert cells[1] == f"{found.held:+.2f} [{found.held_low:+.2f}, {found.held_high:+.2f}]"
        share = f"{100 * found.left:.0f} [{100 * found.left_low:.0f}, {100 * found.left_high:.0f}]"
        assert cells[2] == ("-" if np.isnan(found.left) else share)
    assert f"ours: {effects.fits.pieces[0]:,} pieces in 150 sentences, R²" in table.caption
    slopes = slopes_table(effects)
    assert [row[0] for row in slopes.rows] == [
        "word frequency (log10 of occurrences per million words)",
        "position in the input (pieces)",
        "length of the word (doublings of pieces)",
        "loss of the piece when masked (nats)",
        "length of the sentence (words)",
    ]
    assert slopes.rows[3][2] == "-" and re.fullmatch(r"\+0\.\d{3} \[\+0\.\d{3}, \+0\.\d{3}\]", slopes.rows[3][1])
    assert "| part of speech |" in Document("why", [table, slopes]).to_markdown()
