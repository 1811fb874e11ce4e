import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.data.corpora.masking import (
    MaskingRule,
    SampleRandom,
    choose_words,
    make_sample,
    truncate_pair,
)
from depthlab.kinds import TokenKind

VOCABULARY = 500
WORD_STARTS = np.arange(VOCABULARY) % 3 != 0  # a third of the pieces go on with a word


def rule(max_length=128, mask_ratio=0.2, max_predictions=20) -> MaskingRule:
    return MaskingRule(
        max_length,
        mask_ratio,
        max_predictions,
        word_starts=WORD_STARTS,
        ordinary_ids=np.arange(5, VOCABULARY),
        cls_id=2,
        sep_id=3,
        mask_id=4,
    )


def sentences(rng: np.random.Generator, count: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = rng.integers(1, longest + 1, size=count)
    return rng.integers(5, VOCABULARY, size=lengths.sum()), lengths


def originals(sample) -> np.ndarray:
    return np.where(sample.labels == -100, sample.input_ids, sample.labels)


def words_of(sample) -> list[list[int]]:
    """Positions of each whole word, segment by segment: restated piece by piece."""
    words = []
    ids = originals(sample)
    for position, kind in enumerate(sample.kinds):
        if kind in (TokenKind.CLS, TokenKind.SEP):
            words.append(None)
        elif words[-1] is None or WORD_STARTS[ids[position]]:
            words.append([position])
        else:
            words[-1].append(position)
    return [word for word in words if word is not None]


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(2, 12),
    longest=st.integers(1, 60),
    max_length=st.integers(8, 128),
    ratio=st.floats(0.05, 0.5),
    cap=st.none() | st.integers(1, 30),
)
def test_sample_is_well_formed(seed, count, longest, max_length, ratio, cap):
    rng = np.random.default_rng(seed)
    ids, lengths = sentences(rng, count, longest)
    sample = make_sample(ids, lengths, rule(max_length, ratio, cap), rng)
    length = len(sample.input_ids)
    assert length == min(max_length, len(ids) + 3)

    middle, end = np.flatnonzero(sample.kinds == TokenKind.SEP)
    assert end == length - 1
    assert 1 < middle < end - 1
    assert sample.input_ids[[0, middle, end]].tolist() == [2, 3, 3]
    assert sample.kinds[0] == TokenKind.CLS
    assert sample.token_type_ids.tolist() == [0] * (middle + 1) + [1] * (length - middle - 1)

    # Both segments are stretches of the text that meet (untruncated) at a sentence boundary, in the order of the label.
    text = originals(sample)
    first, second = text[1:middle], text[middle + 1 : end]
    if sample.sentence_order_label:
        first, second = second, first
    if len(ids) + 3 <= max_length:
        assert np.array_equal(np.concatenate([first, second]), ids)
        assert len(first) in np.cumsum(lengths)[:-1]
    else:
        windows = [np.lib.stride_tricks.sliding_window_view(ids, len(part)) for part in (first, second)]
        assert all((window == part).all(1).any() for window, part in zip(windows, (first, second), strict=True))

    chosen = sample.labels != -100
    drawn = np.isin(sample.kinds, [TokenKind.MASK_MASK, TokenKind.MASK_RANDOM, TokenKind.MASK_ORIGINAL])
    assert np.array_equal(chosen, drawn)
    assert (sample.input_ids[sample.kinds == TokenKind.MASK_MASK] == 4).all()
    assert (sample.input_ids[sample.kinds == TokenKind.MASK_RANDOM] >= 5).all()
    unchanged = np.isin(sample.kinds, [TokenKind.PLAIN, TokenKind.MASK_ORIGINAL])
    assert np.array_equal(sample.input_ids[unchanged], text[unchanged])

    # Whole words, within the budget, and no word that is left would still have fitted.
    budget = max(1, round(ratio * length)) if cap is None else min(cap, max(1, round(ratio * length)))
    words = words_of(sample)
    assert all(len({chosen[position] for position in word}) == 1 for word in words)
    spent = int(chosen.sum())
    assert spent <= budget
    left = [len(word) for word in words if not chosen[word[0]]]
    assert all(spent + size > budget for size in left)


def test_budget_is_spent_exactly_on_words_of_one_piece():
    rng = np.random.default_rng(0)
    for _ in range(50):
        ids = rng.choice(np.flatnonzero(WORD_STARTS)[5:], size=150)
        for cap, expected in ((20, 20), (None, 26)):
            sample = make_sample(ids, np.full(10, 15), rule(max_predictions=cap), rng)
            assert (sample.labels != -100).sum() == expected  # round(0.2 x 128) = 26


def within(count: int, total: int, chance: float) -> bool:
    """Within 4.5 standard deviations of a binomial count: fails by chance once in 150,000."""
    return abs(count - total * chance) < 4.5 * math.sqrt(total * chance * (1 - chance))


def test_shares_of_kinds_and_of_swaps():
    rng = np.random.default_rng(1)
    kinds, swapped, replaced_by = Counter(), 0, Counter()
    for _ in range(4000):
        ids, lengths = sentences(rng, 6, 25)
        sample = make_sample(ids, lengths, rule(), rng)
        kinds.update(sample.kinds.tolist())
        swapped += sample.sentence_order_label
        replaced_by.update(sample.input_ids[sample.kinds == TokenKind.MASK_RANDOM].tolist())
    chosen = kinds[TokenKind.MASK_MASK] + kinds[TokenKind.MASK_RANDOM] + kinds[TokenKind.MASK_ORIGINAL]
    assert within(kinds[TokenKind.MASK_MASK], chosen, 0.8)
    assert within(kinds[TokenKind.MASK_RANDOM], chosen, 0.1)
    assert within(kinds[TokenKind.MASK_ORIGINAL], chosen, 0.1)
    assert within(swapped, 4000, 0.5)
    assert set(replaced_by) == set(range(5, VOCABULARY))


def test_drawn_ngrams():
    """With one n-gram's worth of budget on a long row of one-piece words, the length chosen is the n drawn."""
    words = 400
    special = np.zeros(words, dtype=bool)
    special[[0, -1]] = True
    sizes = Counter()
    for seed in range(6000):
        rng = np.random.default_rng(seed)
        chosen = choose_words(np.arange(words + 1), special, 3, rng)
        # Only the first n-gram is never shortened by the budget; its positions come first and are consecutive.
        first = 1 + next((i for i in range(len(chosen) - 1) if chosen[i + 1] != chosen[i] + 1), len(chosen) - 1)
        if chosen[0] < words - 3:
            sizes[first] += 1
    total = sum(sizes.values())
    # A following n-gram lies right behind the first by chance 1 in 400: far less than the tolerance.
    for n, chance in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert abs(sizes[n] / total - chance) < 0.025, (n, sizes)


def albert_masks(words: list[list[int]], budget: int, rng: np.random.Generator) -> set[int]:
    """ALBERT's `create_masked_lm_predictions` (do_whole_word_mask, no permutation), restated: positions to predict."""
    starts = [words[i : i + 3] for i in range(len(words))]
    rng.shuffle(starts)
    chances = np.array([1, 1 / 2, 1 / 3])
    covered: set[int] = set()
    for ngram in starts:
        if len(covered) >= budget:
            break
        n = rng.choice(np.arange(1, len(ngram) + 1), p=chances[: len(ngram)] / chances[: len(ngram)].sum())
        positions = list(itertools.chain.from_iterable(ngram[:n]))
        while len(covered) + len(positions) > budget and n > 1:
            n -= 1
            positions = list(itertools.chain.from_iterable(ngram[:n]))
        if len(covered) + len(positions) > budget or covered & set(positions):
            continue
        covered |= set(positions)
    return covered


def test_runs_of_masked_words_are_like_alberts():
    """Mean length of a run of neighbouring predicted words, beside ALBERT's own algorithm on the same words."""
    rng = np.random.default_rng(3)

    def runs(chosen: list[bool]) -> list[int]:
        return [len(run) for run in "".join("x" if c else " " for c in chosen).split()]

    ours, theirs = [], []
    for _ in range(1500):
        sizes = rng.choice([1, 1, 1, 2, 3], size=90)
        bounds = np.concatenate([[0, 1], 1 + np.cumsum(sizes)])
        bounds = np.append(bounds, bounds[-1] + 1)
        special = np.zeros(92, dtype=bool)
        special[[0, -1]] = True
        words = [list(range(a, b)) for a, b in itertools.pairwise(bounds[1:-1])]
        mine = set(choose_words(bounds, special, 20, rng).tolist())
        albert = albert_masks(words, 20, rng)
        assert len(mine) == 20
        ours += runs([word[0] in mine for word in words])
        theirs += runs([word[0] in albert for word in words])
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.08


@settings(max_examples=300)
@given(first=st.integers(1, 80), second=st.integers(1, 80), most=st.integers(2, 100), seed=st.integers(0, 2**32))
def test_truncation_keeps_what_alberts_loop_keeps(first, second, most, seed):
    lengths = [first, second]
    while sum(lengths) > most:  # truncate_seq_pair
        lengths[0 if lengths[0] > lengths[1] else 1] -= 1
    kept = truncate_pair(np.arange(first), np.arange(second), most, np.random.default_rng(seed))
    assert [len(part) for part in kept] == lengths
    assert all((np.diff(part) == 1).all() for part in kept)


def test_truncation_ends_are_drawn_piece_by_piece():
    rng = np.random.default_rng(0)
    fronts = [int(truncate_pair(np.arange(100), np.arange(10), 90, rng)[0][0]) for _ in range(3000)]
    assert within(sum(fronts), 3000 * 20, 0.5)
    assert np.var(fronts) == pytest.approx(20 / 4, rel=0.12)


def test_random_numbers_belong_to_the_sample():
    def numbers(seed, stream, epoch, sample):
        return tuple(SampleRandom(seed, stream).at(epoch, sample).random(4))

    places = [*itertools.product((0, 1), (0, 1), (0, 1), (0, 9))]
    assert len({numbers(*place) for place in places}) == len(places)
    random = SampleRandom(1, 0)
    random.at(0, 5).integers(100, size=7)  # leaves half a draw in the generator's buffer
    assert tuple(random.at(1, 9).random(4)) == numbers(1, 0, 1, 9)
