"""Made-up tables of the pieces that a model has read, as `depthlab predict --dump` writes them."""

import numpy as np
import pandas as pd

RELATIONS = (
    "nsubj",
    "nsubj:pass",
    "obj",
    "obl",
    "nmod",
    "case",
    "det",
    "root",
    "punct",
    "amod",
    "advmod",
    "conj",
    "cc",
)
TAGS = ("NOUN", "VERB", "DET", "ADP", "PUNCT")


def token_table(seed=0, sentences=40, model="ours", longest=12):
    """Depths owe to the sentence, to the frequency of the word, and to chance; to labels they owe nothing."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, sentences)
    sentence = np.repeat(np.arange(sentences), lengths)
    words = len(sentence)
    table = pd.DataFrame(
        {
            "model": model,
            "sentence": sentence,
            "document": [f"document-{number // 5}" for number in sentence],
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
