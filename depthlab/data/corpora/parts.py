"""Which documents are trained on, which are held out for development, which for the test.

The digest of a document's text and a seed draw its part, in every source by the same shares. So a document keeps its
part whatever else a corpus has. Then what is held out is held against what it must not repeat: a test document of whose
13-grams more than a twentieth occur in training documents goes over to them, and so on, down from test over development
to training, until there is none. Documents only ever move in this direction, by more documents, too: whatever is held
out of a corpus was never trained on in a part of that corpus.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

MOST_SHARED = 0.05
"""Of a held-out document's 13-grams, as far as they are sampled, may occur in a part below."""


class Part(IntEnum):
    """Of a corpus; the higher, the less it may have to do with those below."""

    TRAINING = 0
    DEVELOPMENT = 1  # what decides between models: `validate`
    TEST = 2  # what is published: `test`
    LEFT_OUT = 3  # of a source that is given to a part as a whole, but repeats one below


@dataclass(frozen=True)
class SplitSettings:
    """What the split depends on besides the documents.

    Attributes:
        development: Share of the documents.
        test: Share of the documents.
        seed: Another one draws other documents.
    """

    development: float
    test: float
    seed: int


class Documents(NamedTuple):
    """The documents of a source, D of them, and the stored rows, R, that they are cut into."""

    identities: np.ndarray  # [D] uint64, of the text
    document: np.ndarray  # [R], number of each row's document, from 0
    grams: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
    """Sampled 13-grams, uint64, and the document, from 0, of each, in blocks; read more than once."""
    given: Part | None  # where all of the source is of one part


class Kept(NamedTuple):
    """What came of a split."""

    parts: list[np.ndarray]  # of each source, [D] int8
    moved: int  # documents that repeat a part below
    worst: float  # the largest share of a held-out document's 13-grams that a part below has


def is_held_out(identity: int, settings: SplitSettings) -> bool:
    """Whether a document's digest holds it out."""
    return _draw(identity, settings.seed) < _limit(settings.development + settings.test)


def split_documents(sources: Sequence[Documents], settings: SplitSettings) -> Kept:
    """The part of every document of every source.

    A source of three different documents or more has at least one in each part, the one of the lowest draw, unless it
    repeats what is below. Memory is needed for the 13-grams of what is held out only.
    """
    parts = [
        _drawn(source.identities, settings)
        if source.given is None
        else np.full(len(source.identities), source.given, np.int8)
        for source in sources
    ]
    return _keep_apart(sources, parts)


def _draw(identity: int, seed: int) -> int:
    """Uniform below 2^64."""
    return int.from_bytes(hashlib.sha256(f"{seed} {identity}".encode()).digest()[:8])


def _limit(share: float) -> int:
    return min(int(share * 2**64), 2**64 - 1)


def _drawn(identities: np.ndarray, settings: SplitSettings) -> np.ndarray:
    draws = np.array([_draw(identity, settings.seed) for identity in identities.tolist()], dtype=np.uint64)
    test, held_out = _limit(settings.test), _limit(settings.development + settings.test)
    lowest = np.unique(draws).tolist()
    if len(lowest) >= 3:
        test = max(test, lowest[0] + 1)
        held_out = max(held_out, next((draw for draw in lowest if draw >= test), 0) + 1)
    return np.where(draws < test, Part.TEST, np.where(draws < held_out, Part.DEVELOPMENT, Part.TRAINING)).astype(
        np.int8
    )


def _keep_apart(sources: Sequence[Documents], parts: list[np.ndarray]) -> Kept:
    held_out = [np.flatnonzero(part) for part in parts]
    part = np.concatenate([part[held] for part, held in zip(parts, held_out, strict=True)])
    fixed = np.concatenate([np.full(len(h), s.given is not None) for s, h in zip(sources, held_out, strict=True)])
    starts = np.cumsum([0, *map(len, held_out)])
    owners, grams = [], []
    for source, held, start in zip(sources, held_out, starts[:-1], strict=True):
        for values, document in source.grams():
            is_held = np.isin(document, held)
            owners.append(start + np.searchsorted(held, document[is_held]))
            grams.append(values[is_held])
    owner = np.concatenate(owners) if owners else np.empty(0, np.int64)
    known, place = np.unique(np.concatenate(grams) if grams else np.empty(0, np.uint64), return_inverse=True)
    trained = np.zeros(len(known), bool)  # which of them occur in training documents
    for source, drawn in zip(sources, parts, strict=True) if len(known) else ():
        for values, document in source.grams():
            values = values[drawn[document] == Part.TRAINING]
            where = np.searchsorted(known, values).clip(max=len(known) - 1)
            trained[where[known[where] == values]] = True

    sizes = np.bincount(owner, minlength=len(part)).clip(min=1)
    before = part.copy()
    while True:
        lowest = np.where(trained, Part.TRAINING, Part.LEFT_OUT)  # part in which each occurs
        np.minimum.at(lowest, place, part[owner])
        shared = {
            below: np.bincount(owner, lowest[place] <= below, len(part)) / sizes
            for below in (Part.TRAINING, Part.DEVELOPMENT)
        }
        is_above = {below: (part > below) & (part < Part.LEFT_OUT) for below in shared}
        target = part.copy()
        for below in (Part.DEVELOPMENT, Part.TRAINING):
            repeats = is_above[below] & (shared[below] > MOST_SHARED)
            target[repeats] = np.where(fixed[repeats], Part.LEFT_OUT, below)
        if np.array_equal(target, part):
            break
        part = target
    for drawn, held, start, end in zip(parts, held_out, starts[:-1], starts[1:], strict=True):
        drawn[held] = part[start:end]
    worst = max((float(shared[below][above].max(initial=0.0)) for below, above in is_above.items()), default=0.0)
    return Kept(parts, int(np.count_nonzero(part != before)), worst)
