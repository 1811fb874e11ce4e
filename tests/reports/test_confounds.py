"""The tables of what is left of labels' effects, and of the confounds' own."""

import re
from itertools import product

import pandas as pd

from depthlab.analysis.confounds import label_effects
from depthlab.render.document import Document, Strong
from depthlab.reports.confounds import confounds_table, effects_table, in_all
from tests.analysis.token_tables import planted_models, planted_table


def test_the_tables():
    two_models = planted_models()
    effects = label_effects(two_models, two_models.upos)
    assert effects.fits.model.tolist() == ["ours", "theirs"]
    table = effects_table(effects, "part of speech")
    assert table.header == ["part of speech", "ours: alone", "held", "p", "theirs: alone", "held", "p"]
    rows = {row[0]: row for row in table.rows}
    for label, (model, start) in product(rows, (("ours", 1), ("theirs", 4))):
        cells = rows[label][start : start + 3]
        found = effects.labels[(effects.labels.model == model) & (effects.labels.label == label)].squeeze()
        assert cells[0] == f"{found.alone:+.2f} [{found.alone_low:+.2f}, {found.alone_high:+.2f}]"
        assert cells[1] == f"{found.held:+.2f} [{found.held_low:+.2f}, {found.held_high:+.2f}]"
        assert cells[2] == ("< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}")
        assert isinstance(cells[1], Strong) == (found.p_value <= 0.05)
    assert isinstance(rows["VERB"][2], Strong) and not isinstance(rows["VERB"][5], Strong)
    assert f"ours: {effects.fits.pieces[0]:,} pieces in 75 documents, R²" in table.caption
    assert "errors clustered by document, of labels in 10 of them or more" in table.caption
    confounds = confounds_table(effects)
    assert [row[0] for row in confounds.rows] == [
        "word frequency (log10 of occurrences per million words)",
        "position in the input (pieces)",
        "length of the word (pieces)",
        "loss of the piece when masked (nats)",
        "length of the sentence (words)",
        "loss of the piece when masked (nats) x word frequency (log10 of occurrences per million words)",
    ]
    assert confounds.header[1:4] == ["ours: from, to", "iterations", "worst"]
    assert confounds.rows[3][4:] == ["-"] * 3 and confounds.rows[5][1:3] == ["-"] * 2
    signed = r"[+-]\d\.\d\d"
    assert re.fullmatch(rf"{signed} \[{signed}, {signed}\]", confounds.rows[3][2])
    assert re.fullmatch(rf"{signed} \(\d\.\d\d\)", confounds.rows[5][3])
    assert "| part of speech |" in Document("why", [table, confounds]).to_markdown()


def test_what_holds_in_all_treebanks():
    first = planted_table(6, effects={"VERB": 1.0, "ADP": -0.5})
    second = planted_table(7, effects={"VERB": 0.5, "DET": 1.0}).assign(model="other")
    both = pd.concat([first, second], ignore_index=True)
    effects = label_effects(both, both.upos)
    text = in_all(effects, {"m": ["ours", "other"]})
    assert re.fullmatch(r"In all 2 treebanks of m, .+, deeper: VERB; shallower: .+\.", text) and "DET" not in text
    assert "ADP" in text.partition("shallower")[2]
    assert "needs a second" in in_all(effects, {"m": ["ours"], "n": ["other"]})
