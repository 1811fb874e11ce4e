"""Are the words of a label deeper than others? A permutation test, corrected for the number of labels."""

from typing import NamedTuple

import numpy as np

PERMUTATIONS = 2000
TIES = 1e-9
"""Relative; statistics that differ by less are equal but for rounding."""


class LabelTest(NamedTuple):
    """Of K labels; [K] each."""

    difference: np.ndarray
    """Iterations per piece: how much deeper the label's pieces are than the others of their sentence; nan for a label
    that has its sentences for itself."""
    p_value: np.ndarray
    """Corrected for the number of labels."""


def permute_labels(
    sentence: np.ndarray, label: np.ndarray, depth: np.ndarray, pieces: np.ndarray, permutations: int = PERMUTATIONS
) -> LabelTest:
    """Compare each label with the rest, within sentences.

    What is exchangeable: under the null hypothesis it does not matter for depth which word of a sentence bears which
    label. Depths of one sentence depend on each other and sentences differ, so labels are permuted among the words of a
    sentence, never between sentences; the pieces of a word, which share its label, stay together.

    Statistic: t_sk is the sum, over the pieces of label k in sentence s, of depth less the sentence's mean depth; the
    statistic of k is |sum_s t_sk| / sqrt(sum_s t_sk^2). Studentised so, the test stays valid, given many sentences,
    where labels have the same mean depth but not the same variance (Janssen 1997; Chung and Romano 2013). The statistic
    is at most the root of the number of sentences with the label, so a rare label can't be significant.

    Correction: max-T (Westfall and Young 1993). A label's p-value is how often the largest statistic of any label
    reaches its own when labels are permuted. If no label matters, the chance that one is found is the level, whatever
    the dependence between labels.

    The difference is the coefficient of a regression of depth on the label's indicator with a constant for every
    sentence. It is from all other labels taken together: where one label is deep, the others are shallower than the
    rest.

    Args:
        sentence: [W] integer, of each word.
        label: [W] integer, 0 to K - 1.
        depth: [W], summed over the word's pieces.
        pieces: [W] integer.
        permutations: how many are drawn; no p-value is below 1 / (permutations + 1).
    """
    order = np.argsort(sentence, kind="stable")
    label, depth, pieces = label[order], depth[order], pieces[order]
    _, sentence = np.unique(sentence[order], return_inverse=True)
    labels, sentences = label.max() + 1, sentence[-1] + 1
    cells = sentence * labels

    def by_cell(label: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sums by sentence and label, [S, K]."""
        return np.bincount(cells + label, values, minlength=sentences * labels).reshape(sentences, labels)

    def statistics(label: np.ndarray) -> np.ndarray:
        sums = by_cell(label, deviation)
        scale = np.sqrt(np.einsum("sk,sk->k", sums, sums))
        return np.abs(sums.sum(axis=0)) / np.where(scale > 0, scale, 1)

    counts = by_cell(label, pieces)
    of_sentence = counts.sum(axis=1)
    deviation = depth - pieces * (np.bincount(sentence, depth) / of_sentence)[sentence]
    deviation[(counts > 0).sum(axis=1)[sentence] == 1] = 0  # the sum over a sentence, but for rounding
    observed = statistics(label)
    reached = np.ones(labels)  # by the labels as they are
    rng = np.random.default_rng(0)
    for _ in range(permutations):
        shuffled = label[np.argsort(sentence + rng.random(len(label)))]
        reached += statistics(shuffled).max() >= observed * (1 - TIES)

    shared = (counts * (1 - counts / of_sentence[:, None])).sum(axis=0)
    difference = by_cell(label, deviation).sum(axis=0) / np.where(shared > 0, shared, np.nan)
    return LabelTest(difference, reached / (permutations + 1))
