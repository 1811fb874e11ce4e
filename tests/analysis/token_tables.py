"""Made-up tables of the pieces that a model has read, as `depthlab predict --dump` writes them."""

import numpy as np
import pandas as pd

RELATIONS = ("nsubj", "nsubj:pass", "obj", "obl", "nmod", "case", "det", "root", "punct", "amod", "advmod")
RELATIONS += ("conj", "cc")
TAGS = ("NOUN", "VERB", "DET", "ADP", "PUNCT")
PLANTED = {"frequency": -0.7, "position": 0.05, "pieces": 0.4, "loss": 0.3, "sentence_length": -0.1}
"""Iterations for a unit more; of pieces, for twice as many."""


def token_table(seed=0, sentences=40, model="ours", longest=12):
    """Depths owe to the sentence, to the frequency of the word, and to chance; to labels they owe nothing."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, sentences)
    sentence = np.repeat(np.arange(sentences), lengths)
    words = len(sentence)
    table = pd.DataFrame(
        {
            "model": model,
            "treebank": "made",
            "sentence": sentence,
            "document": [f"document-{number // 2}" for number in sentence],
            "word": np.concatenate([np.arange(length) for length in lengths]),
            "form": [f"w{number}" for number in rng.integers(0, 50, words)],
            "pieces": rng.choice([1, 1, 1, 2, 3], words),
            "upos": rng.choice(TAGS, words),
            "deprel": rng.choice(RELATIONS, words),
            "kind": "PLAIN",
            "sentence_length": lengths[sentence],
            "frequency": rng.normal(3, 1, words),
        }
    )
    table = table.loc[table.index.repeat(table.pieces)].reset_index(drop=True)
    table["piece"] = table.groupby(["sentence", "word"]).cumcount()
    table["token"] = [f"▁{form}" if piece == 0 else form for form, piece in zip(table.form, table.piece, strict=True)]
    table["position"] = table.groupby("sentence").cumcount() + 1
    depth = 6 + rng.normal(0, 1, sentences)[table.sentence] - 0.5 * table.frequency + rng.normal(0, 1, len(table))
    table["depth"] = depth.round().clip(1, 12).astype(int)
    table["remainder"] = rng.uniform(0, 1, len(table))
    table["loss"] = rng.exponential(2, len(table))
    return table


def two_models():
    """One table after the other; a sentence has no labels."""
    tables = [token_table(seed, model=model) for seed, model in enumerate(("ours", "theirs"))]
    together = pd.concat(tables, ignore_index=True)
    together.loc[together.sentence == 3, ["upos", "deprel"]] = None
    return together


def planted_table(seed=0, sentences=150, effects=None, slopes=PLANTED):
    """Depths, not rounded, that owe to labels and confounds what is planted, and to sentences and chance.

    Nouns are rare words and determiners frequent ones; so depth may owe to frequency what it seems to owe to them.
    """
    table = token_table(seed, sentences)
    table["frequency"] -= table.upos.map({"NOUN": 1.5, "DET": -1.5}).fillna(0)
    rng = np.random.default_rng(seed)
    depth = 10 + table.upos.map(effects or {}).fillna(0)
    for name, slope in slopes.items():
        depth += slope * (np.log2(table[name]) if name == "pieces" else table[name])
    return table.assign(depth=depth + rng.normal(0, 0.5, sentences)[table.sentence] + rng.normal(0, 0.5, len(table)))


def planted_models():
    """Two, the second without losses, and one of fixed depth."""
    ours, theirs = planted_table(6, effects={"VERB": 1.0}), planted_table(6).assign(model="theirs")
    return pd.concat([ours, theirs.assign(loss=np.nan), ours.assign(model="fixed", depth=12)], ignore_index=True)
