"""What two texts have in common, word for word: hashes of their 13-grams, of which a fixed eighth is kept."""

import re

import numpy as np
import pandas as pd

WORDS = 13
"""As Brown et al. (2020, appendix C) take to tell what of a benchmark a corpus contains."""
ONE_IN = 8
"""Of the grams: those of small hashes, so the same of every text ("FracMinHash": Irber et al. 2022)."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of a hash is lost
WORD = re.compile(r"\w+")


def sampled_grams(text: str) -> np.ndarray:
    """Hashes of the sampled 13-grams of a text's words, case and punctuation left aside: [G] uint64, sorted, unique.

    A text of fewer words has none.
    """
    words = np.array(WORD.findall(text.lower()), dtype=object)
    if len(words) < WORDS:
        return np.empty(0, dtype=np.uint64)
    hashes = pd.util.hash_array(words, categorize=False)  # a table of the words first takes longer
    grams = np.zeros(len(words) - WORDS + 1, dtype=np.uint64)
    for place in range(WORDS):  # a polynomial modulo 2^64
        grams = grams * MULTIPLIER + hashes[place : place + len(grams)]
    return np.unique(grams[grams < np.uint64(2**64 // ONE_IN)])
