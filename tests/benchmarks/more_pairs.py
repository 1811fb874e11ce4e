"""More pairs of a task's sentences, unlabelled: `python -m tests.benchmarks.more_pairs CHECKPOINT IN.tsv OUT.tsv`.

Each sentence with up to four others, from near to far by the cosine of their mean states: pairs drawn evenly would have
nothing in common. A trained model labels them for a smaller one (Thakur et al. 2021, Augmented SBERT).
"""

import csv
import random
import sys

from sentence_transformers import SentenceTransformer, util

import depthlab.models  # noqa: F401  so that AutoModel knows the checkpoint

NEAREST = ((0, 1), (1, 4), (4, 12), (12, 40))
"""One of each of these ranks."""


def main(checkpoint: str, given: str, made: str) -> None:
    """Write the pairs, columns sentence1 and sentence2."""
    with open(given) as lines:
        pairs = [(row["sentence1"], row["sentence2"]) for row in csv.DictReader(lines, delimiter="\t", quoting=3)]
    sentences = sorted({sentence for pair in pairs for sentence in pair})
    states = SentenceTransformer(checkpoint, device="cpu").encode(sentences, convert_to_tensor=True)
    found = util.semantic_search(states, states, top_k=NEAREST[-1][1] + 1)
    draw, known = random.Random(0), {frozenset(pair) for pair in pairs}
    with open(made, "w") as lines:
        print("sentence1", "sentence2", sep="\t", file=lines)
        for number, (sentence, hits) in enumerate(zip(sentences, found, strict=True)):
            others = [hit["corpus_id"] for hit in hits if hit["corpus_id"] != number]
            for first, last in NEAREST:
                pair = (sentence, sentences[others[draw.randrange(first, last)]])
                if frozenset(pair) not in known:
                    known.add(frozenset(pair))
                    print(*(pair if draw.random() < 0.5 else pair[::-1]), sep="\t", file=lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
