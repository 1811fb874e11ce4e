"""One stored chunk of sentences becomes one pre-training sample: segments, their order, and masked whole words.

Follows ALBERT's `create_pretraining_data.py` (Lan et al. 2020) but for what its docstrings state. NumPy only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from depthlab.data.tokenization import special_ids, word_start_table
from depthlab.kinds import NOT_PREDICTED, TokenKind

NGRAM_CHANCES = np.array([6, 3, 2]) / 11
"""P(n) of an n-gram of n = 1, 2, 3 words, proportional to 1/n."""
NGRAM_BOUNDS = np.cumsum(NGRAM_CHANCES)[:-1]
PLAIN, MASK_MASK, MASK_RANDOM, MASK_ORIGINAL, CLS, SEP = map(int, list(TokenKind)[:6])  # enum look-ups are slow


class Sample(NamedTuple):
    """One sequence of T tokens; the arrays are [T]."""

    input_ids: np.ndarray
    token_type_ids: np.ndarray  # 0 for [CLS] x1 [SEP], 1 for x2 [SEP]
    labels: np.ndarray  # the original id where predicted, else -100
    kinds: np.ndarray  # TokenKind
    sentence_order_label: int  # 1 = swapped


@dataclass(frozen=True)
class MaskingRule:
    """What masking needs to know of the tokenizer and of the settings.

    Attributes:
        max_length: Most tokens of a sample, special ones included.
        mask_ratio: Share of the tokens (special ones counted) that are predicted.
        max_predictions: Most predicted tokens of a sample; None for no cap.
        word_starts: [V] bool, whether a piece begins a word.
        ordinary_ids: Ids that a random replacement is drawn from: all but the special ones.
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].
        mask_id: Id of [MASK].
    """

    max_length: int
    mask_ratio: float
    max_predictions: int | None
    word_starts: np.ndarray
    ordinary_ids: np.ndarray
    cls_id: int
    sep_id: int
    mask_id: int

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, max_length: int, mask_ratio: float, max_predictions: int | None
    ) -> "MaskingRule":
        return cls(
            max_length=max_length,
            mask_ratio=mask_ratio,
            max_predictions=max_predictions,
            word_starts=word_start_table(tokenizer),
            ordinary_ids=np.setdiff1d(np.arange(len(tokenizer)), special_ids(tokenizer)),
            cls_id=tokenizer.cls_token_id,
            sep_id=tokenizer.sep_token_id,
            mask_id=tokenizer.mask_token_id,
        )


class SampleRandom:
    """One generator, moved for every sample to a place of its own in the 2^256 numbers of Philox.

    Ten times quicker than a new generator for every sample.

    Args:
        seed: The user's.
        stream: What the numbers are for: another stream, other numbers.
    """

    def __init__(self, seed: int, stream: int) -> None:
        self._philox = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
        self._state = self._philox.state
        self._generator = np.random.Generator(self._philox)

    def at(self, epoch: int, sample: int) -> np.random.Generator:
        """The generator at the start of a sample's numbers, valid until the next call."""
        self._state["state"]["counter"] = np.array([0, 0, sample, epoch], dtype=np.uint64)
        self._philox.state = self._state
        return self._generator


def make_sample(ids: np.ndarray, sentence_lengths: np.ndarray, rule: MaskingRule, rng: np.random.Generator) -> Sample:
    """Split at a random sentence boundary, swap in half of the cases, truncate, mask.

    Args:
        ids: [N] pieces of two or more sentences, one after the other.
        sentence_lengths: [S] pieces of each sentence, S >= 2, summing to N.
        rule: Lengths, budget and special ids.
        rng: All randomness of the sample.
    """
    boundary = sentence_lengths[: rng.integers(1, len(sentence_lengths))].sum()
    first, second = ids[:boundary], ids[boundary:]
    swapped = rng.random() < 0.5
    if swapped:
        first, second = second, first
    first, second = truncate_pair(first, second, rule.max_length - 3, rng)

    length = len(first) + len(second) + 3
    middle = len(first) + 1  # position of the first [SEP]
    input_ids = np.empty(length, dtype=np.int32)
    input_ids[0] = rule.cls_id
    input_ids[1:middle] = first
    input_ids[middle] = rule.sep_id
    input_ids[middle + 1 : -1] = second
    input_ids[-1] = rule.sep_id
    token_type_ids = np.zeros(length, dtype=np.int8)
    token_type_ids[middle + 1 :] = 1
    kinds = np.full(length, PLAIN, dtype=np.int8)
    kinds[0] = CLS
    kinds[[middle, -1]] = SEP

    starts = rule.word_starts[input_ids]
    starts[[0, 1, middle, middle + 1, -1]] = True  # a truncated segment may begin inside a word: what is left is a word
    bounds = np.append(np.flatnonzero(starts), length)
    special = kinds[bounds[:-1]] != PLAIN
    chosen = choose_words(bounds, special, mask_budget(length, rule.mask_ratio, rule.max_predictions), rng)

    labels = np.full(length, NOT_PREDICTED, dtype=np.int32)
    labels[chosen] = input_ids[chosen]
    drawn = rng.random(len(chosen))
    masked, replaced = drawn < 0.8, drawn >= 0.9
    kinds[chosen] = np.where(masked, MASK_MASK, np.where(replaced, MASK_RANDOM, MASK_ORIGINAL))
    input_ids[chosen[masked]] = rule.mask_id
    input_ids[chosen[replaced]] = rule.ordinary_ids[rng.integers(len(rule.ordinary_ids), size=replaced.sum())]
    return Sample(input_ids, token_type_ids, labels, kinds, int(swapped))


def truncate_pair(
    first: np.ndarray, second: np.ndarray, max_pieces: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shorten a pair to `max_pieces`: the longer side (the second in a tie) loses one piece after the other.

    Each lost piece comes off the front or the back with equal chances, so the losses at the front are binomial.
    """
    excess = len(first) + len(second) - max_pieces
    if excess <= 0:
        return first, second
    surplus = len(first) - len(second)
    levelling = min(excess, abs(surplus))  # pieces lost before both sides are equal
    from_second = (excess - levelling + 1) // 2
    from_first = (excess - levelling) // 2
    if surplus > 0:
        from_first += levelling
    else:
        from_second += levelling
    return _shorten(first, from_first, rng), _shorten(second, from_second, rng)


def _shorten(pieces: np.ndarray, loss: int, rng: np.random.Generator) -> np.ndarray:
    front = rng.binomial(loss, 0.5)
    return pieces[front : len(pieces) - (loss - front)]


def mask_budget(length: int, ratio: float, max_predictions: int | None) -> int:
    """Tokens to predict in a sample of `length` tokens, special ones counted; at least one, as in ALBERT."""
    budget = max(1, round(ratio * length))
    return budget if max_predictions is None else min(budget, max_predictions)


def choose_words(bounds: np.ndarray, special: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
    """Positions to predict: n-grams of whole words, at most `budget` pieces, and no word that would still fit is left.

    Words are visited in random order; each draws n from 1, 2, 3 with P(n) proportional to 1/n and takes the n words
    from there on. The n-gram is shortened where the budget, a chosen word or a special token ends it. (ALBERT drops an
    n-gram that overlaps a chosen one, so it can leave part of its budget unspent, and lets n-grams run across [SEP].)

    Args:
        bounds: [W + 1] first position of each word, special tokens being words of their own, and the length.
        special: [W] bool, the words that are special tokens; the last one is.
        budget: Most positions to choose.
        rng: Source of the draws.

    Returns:
        The chosen positions, in no particular order.
    """
    words = len(special)
    order = rng.permutation(words)
    sizes = 1 + np.searchsorted(NGRAM_BOUNDS, rng.random(words), side="right")
    taken = special.tolist()
    starts = bounds.tolist()
    chosen: list[int] = []
    for word, size in zip(order.tolist(), sizes.tolist(), strict=True):
        end = word
        while end < word + size and not taken[end] and starts[end + 1] - starts[word] <= budget:
            taken[end] = True
            end += 1
        chosen.extend(range(starts[word], starts[end]))
        budget -= starts[end] - starts[word]
        if budget == 0:
            break
    return np.array(chosen, dtype=np.int64)
