"""The permutation test: by hand, against all permutations, and how often it finds what is there and what is not."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import binom

from depthlab.analysis.permutation import permute_labels

LABELS = 6


def words(rng, sentences=40, longest=12):
    """Sentence, label, depth and pieces of words; depths owe to the sentence and to chance."""
    sentence = np.repeat(np.arange(sentences), rng.integers(1, longest + 1, sentences))
    label = rng.choice(LABELS, len(sentence), p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    label[:LABELS] = np.arange(LABELS)  # or one may be missing
    pieces = rng.choice([1, 1, 2, 3], len(sentence))
    mean = rng.integers(2, 7, sentences)[sentence]
    return sentence, label, rng.binomial(pieces * 8, mean / 8), pieces


def test_the_difference_is_a_regression_with_a_constant_for_every_sentence():
    sentence, label, depth, pieces = words(np.random.default_rng(1))
    found = permute_labels(sentence, label, depth, pieces, permutations=1)
    # Words of n pieces weigh n: by the root in least squares.
    constants = (sentence[:, None] == np.arange(40)).astype(float)
    for number in range(LABELS):
        design = np.column_stack([label == number, constants]) * np.sqrt(pieces)[:, None]
        coefficients, *_ = np.linalg.lstsq(design, depth / np.sqrt(pieces))
        assert found.difference[number] == pytest.approx(coefficients[0])


def test_p_values_are_those_of_all_permutations():
    """Of 3 sentences of 3 words there are 216; the test draws from them."""
    sentence, label = np.repeat([0, 1, 2], 3), np.array([0, 1, 2, 0, 1, 1, 2, 0, 1])
    depth, pieces = np.array([9, 2, 2, 5, 1, 2, 2, 8, 6]), np.array([2, 1, 1, 1, 1, 1, 2, 2, 2])

    def statistics(arranged):
        values = []
        for number in range(3):
            sums = []
            for s in range(3):
                inside = [w for w in range(9) if sentence[w] == s]
                mean = sum(depth[w] for w in inside) / sum(pieces[w] for w in inside)
                sums.append(sum(depth[w] - pieces[w] * mean for w in inside if arranged[w] == number))
            scale = sum(value**2 for value in sums) ** 0.5
            values.append(abs(sum(sums)) / scale if scale > 1e-9 else 0)
        return values

    observed = statistics(label)
    within = [list(permutations(label[3 * s : 3 * s + 3])) for s in range(3)]
    largest = [max(statistics(np.concatenate(arranged))) for arranged in product(*within)]
    exact = [np.mean([value >= o - 1e-9 for value in largest]) for o in observed]
    found = permute_labels(sentence, label, depth, pieces, permutations=4000).p_value
    np.testing.assert_allclose(found, exact, atol=4 * 0.5 / np.sqrt(4000))
    assert len(set(exact)) > 1


def test_a_planted_effect_is_found():
    for seed in range(5):
        sentence, label, depth, pieces = words(np.random.default_rng(seed), sentences=80)
        depth = depth + 1.0 * pieces * (label == 1)
        found = permute_labels(sentence, label, depth, pieces, permutations=199)
        assert found.p_value[1] <= 0.01 and found.difference[1] == pytest.approx(1.0, abs=0.5)


def false_alarms(draw, runs=200):
    """In how many of some runs any label is found, where none matters."""
    tests = (permute_labels(*draw(np.random.default_rng(seed)), permutations=99) for seed in range(runs))
    return sum(test.p_value.min() <= 0.05 for test in tests)


def test_a_planted_null_is_not_found():
    """Labels that say nothing about depth: in 5 % of the runs any of them is found, within what chance allows."""
    assert binom.ppf(0.002, 200, 0.05) <= false_alarms(words) <= binom.ppf(0.998, 200, 0.05)


def test_a_label_that_varies_more_does_not_raise_false_alarms():
    """It has the same mean depth as all others, a tenth of the words, and far more variance (33 of 200 runs find
    something when the statistic is not studentised)."""

    def draw(rng):
        label = np.where(rng.random(720) < 0.1, 0, rng.integers(1, 4, 720))
        depth = np.where(label == 0, rng.choice([1, 9], 720), rng.integers(4, 7, 720))
        return np.repeat(np.arange(60), 12), label, depth, np.ones(720, int)

    assert false_alarms(draw) <= binom.ppf(0.998, 200, 0.05)


def test_sentences_that_differ_are_no_effect():
    """A label is frequent in deep sentences, where all words are deep: nothing within sentences."""
    rng = np.random.default_rng(0)
    sentence = np.repeat(np.arange(100), 8)
    is_deep = sentence % 2 == 0
    label = np.where(rng.random(800) < np.where(is_deep, 0.7, 0.2), 1, 0)
    depth = np.where(is_deep, 7, 3) + rng.integers(0, 2, 800)
    assert depth[label == 1].mean() - depth[label == 0].mean() > 1.5
    found = permute_labels(sentence, label, depth, np.ones(800, int), permutations=199)
    assert found.p_value.min() > 0.1 and np.abs(found.difference).max() < 0.1


def test_a_label_that_has_its_sentences_for_itself():
    sentence, label, depth, pieces = words(np.random.default_rng(2))
    last = sentence.max()
    more = (np.r_[sentence, [last + 1] * 3], np.r_[label, [LABELS] * 3], np.r_[depth, 1, 2, 9], np.r_[pieces, 1, 1, 3])
    found = permute_labels(*more, permutations=50)
    assert np.isnan(found.difference[LABELS]) and found.p_value[LABELS] == 1
    without = permute_labels(sentence, label, depth, pieces, permutations=50)
    np.testing.assert_array_equal(found.difference[:LABELS], without.difference)


def test_the_order_of_words_does_not_matter():
    arrays = words(np.random.default_rng(3))
    order = np.random.default_rng(4).permutation(len(arrays[0]))
    found, shuffled = (permute_labels(*a, permutations=20) for a in (arrays, [array[order] for array in arrays]))
    np.testing.assert_allclose(found.difference, shuffled.difference)


def test_depth_that_is_the_same_everywhere():
    sentence, label, _, pieces = words(np.random.default_rng(5))
    found = permute_labels(sentence, label, 12 * pieces, pieces, permutations=20)
    np.testing.assert_array_equal(found.difference, 0)
    np.testing.assert_array_equal(found.p_value, 1)
