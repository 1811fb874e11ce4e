"""The parts of a corpus, against sets of grams counted one by one; and what happens when documents are added."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.data.corpora.chunks import identify
from depthlab.data.corpora.grams import ONE_IN, sampled_grams
from depthlab.data.corpora.parts import MOST_SHARED, Documents, Part, SplitSettings, is_held_out, split_documents

HALF = SplitSettings(development=0.25, test=0.25, seed=0)


def source(documents, given=None):
    """Of documents as (identity, grams), which are read in two blocks."""

    def grams():
        for block in (range(0, len(documents), 2), range(1, len(documents), 2)):
            pairs = [(gram, number) for number in block for gram in sorted(documents[number][1])]
            values, owners = zip(*pairs, strict=True) if pairs else ((), ())
            yield np.array(values, np.uint64), np.array(owners, np.int64)

    identities = np.array([identity for identity, _ in documents], np.uint64)
    return Documents(identities, np.arange(len(documents)), grams, given)


def parts(*sources, settings=HALF):
    return [of_source.tolist() for of_source in split_documents([source(*s) for s in sources], settings).parts]


corpora = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 60), max_size=30)),
    min_size=1,
    max_size=40,
    unique_by=lambda document: document[0],
)


@settings(max_examples=60)
@given(corpora, st.integers(0, 3))
def test_what_is_held_out_repeats_little(documents, seed):
    kept = split_documents([source(documents)], SplitSettings(0.25, 0.25, seed))
    shares = [0.0]
    for part, (_, grams) in zip(kept.parts[0], documents, strict=True):
        below = [g for other, (_, g) in zip(kept.parts[0], documents, strict=True) if other < part]
        if grams:
            shares.append(len(grams & set().union(*below)) / len(grams))
    assert max(shares) <= MOST_SHARED
    assert kept.worst == pytest.approx(max(shares))
    assert Part.LEFT_OUT not in kept.parts[0]
    alone = parts(([(identity, set()) for identity, _ in documents],), settings=SplitSettings(0.25, 0.25, seed))[0]
    assert kept.moved == sum(kept.parts[0] != alone)


@settings(max_examples=60)
@given(corpora, st.data())
def test_added_documents_take_none_into_what_is_held_out(documents, data):
    """However many sources there are, and in whatever order: what is trained on stays so."""
    cut = data.draw(st.integers(1, len(documents)))
    if len(documents[:cut]) < 3:  # a source of two has no part for certain
        return
    before = dict(zip((d[0] for d in documents[:cut]), parts((documents[:cut],))[0], strict=True))
    shuffled = data.draw(st.permutations(documents))
    after = dict(zip((d[0] for d in shuffled), parts((shuffled,))[0], strict=True))
    assert all(after[identity] <= part for identity, part in before.items())


def test_the_digest_draws_the_shares():
    identities = [identify(f"document {number}") for number in range(20_000)]
    settings = SplitSettings(0.1, 0.05, 3)
    found = parts(([(identity, set()) for identity in identities],), settings=settings)[0]
    assert np.bincount(found) / len(found) == pytest.approx([0.85, 0.1, 0.05], abs=0.01)
    assert [part != Part.TRAINING for part in found] == [is_held_out(identity, settings) for identity in identities]
    other = parts(([(identity, set()) for identity in identities],), settings=SplitSettings(0.1, 0.05, 4))[0]
    held = [number for number, part in enumerate(found) if part]
    assert sum(other[number] > 0 for number in held) / len(held) == pytest.approx(0.15, abs=0.03)


def test_every_source_has_all_parts():
    """However few its documents and low the shares; duplicates are one document."""
    rare = SplitSettings(1e-6, 1e-6, 0)
    few, twice = [(identify(name), set()) for name in "abc"], [(identify(name), set()) for name in "aabb"]
    assert sorted(parts((few,), settings=rare)[0]) == [0, 1, 2]
    assert parts((twice,), settings=rare)[0] == [0] * 4


def test_a_given_part_holds_for_all_but_what_repeats_one_below():
    trained = [(number, {number, 100 + number}) for number in range(20)]
    external = [(50, {1, 900}), (51, {901, 902}), (52, set())]
    assert parts((trained, Part.TRAINING), (external, Part.TEST)) == [[0] * 20, [Part.LEFT_OUT, 2, 2]]
    tuned = [(60, {902})]
    assert parts((tuned, Part.DEVELOPMENT), (external, Part.TEST)) == [[1], [2, Part.LEFT_OUT, 2]]


def test_grams_are_of_words_and_an_eighth_of_them():
    draw = random.Random(0)
    words = [f"w{draw.randrange(5000)}" for _ in range(20_000)]
    grams = set(sampled_grams(" ".join(words)).tolist())
    assert len(grams) / (len(words) - 12) == pytest.approx(1 / ONE_IN, rel=0.1)
    assert grams == set(sampled_grams(", ".join(words).upper() + ".").tolist())
    half = [word if number < 10_000 else word + "x" for number, word in enumerate(words)]
    shared = len(grams & set(sampled_grams(" ".join(half)).tolist())) / len(grams)
    assert shared == pytest.approx(0.5, abs=0.03)
    swapped = sampled_grams(" ".join(words[n ^ 1] for n in range(len(words))))
    assert not grams & set(swapped.tolist())  # the order counts
    assert not len(sampled_grams(" ".join(words[:12])))
