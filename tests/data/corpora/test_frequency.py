"""Word frequencies by hand."""

from math import log10

import pandas as pd
import pytest

from depthlab.data.corpora.frequency import count_words, log_frequency

TEXTS = ("The crows don't circle.", "It's the crow's: the e-mail of Mr. X ...")


def test_words_are_parted_as_in_treebanks():
    counts = count_words(TEXTS)
    once = ("crows", "do", "n't", "circle", "it", "crow", ":", "e", "-", "mail", "of", "mr", "x", "...")
    assert counts == {"the": 3, ".": 2, "'s": 2} | dict.fromkeys(once, 1)


def test_frequencies():
    counts = count_words(TEXTS)
    millions = (counts.total() + len(counts)) / 1e6
    forms = pd.Series(["The", "n't", "Mr.", "e-mail", "raven", "the-raven", "🐦", "THE"], index=range(8, 0, -1))
    expected = [3, 1, 1, 1, 0, 0, 0, 3]  # a form that is parted: the rarest of its parts
    found = log_frequency(forms, counts)
    assert found.tolist() == pytest.approx([log10((count + 1) / millions) for count in expected])
    assert found.index.equals(forms.index)


def test_per_million():
    """In a large corpus the smoothing does not matter: 1 in 1,000 words is 10^3 in a million."""
    counts = count_words(["often " * 999_000, "rare " * 1000])
    assert log_frequency(pd.Series(["rare"]), counts)[0] == pytest.approx(3, abs=1e-3)


def test_text_that_spells_special_tokens():
    """Is text: counted as what it is, marks and all."""
    counts = count_words(["a [SEP] b <pad> c"])
    assert counts == dict.fromkeys(["a", "[", "sep", "]", "b", "<", "pad", ">", "c"], 1)
    assert log_frequency(pd.Series(["[SEP]"]), counts)[0] == log_frequency(pd.Series(["sep"]), counts)[0]
