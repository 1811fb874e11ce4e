"""Four of SentEval's probing tasks out of treebanks, in SentEval's layout.

Beside the rules for labels (see `probing_rules`):

- Sentences have 5 to 28 words, punctuation counted, as in SentEval. They are written as the treebank's words, parted by
  spaces. Of equal sentences the first is kept.
- A document is on one side, in every task and whatever else is given: its name's SHA-256 decides, for 15 % to validate
  on (va), 15 % to test on (te), and the rest to train on (tr).
- Tense and numbers have as many sentences of either label on each side: as many as there are of the rarer, the others
  drawn.
- Top constituents are the 19 most frequent sequences of all sides, and OTHER. On each side the upper quartile of the
  labels' counts is the most that a label keeps, so that the frequent fourth is balanced and the rest is what there is.
  SentEval balances all twenty, which would leave next to nothing of a treebank.
- SentEval, with its millions of sentences, also keeps the words in question apart (a verb form is on one side only) and
  takes only those of middling frequency. A treebank is too small for either.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from conllu import Token

from depthlab.data.benchmarks.probing import PROBING_SPLITS, PROBING_TASKS
from depthlab.data.benchmarks.probing_rules import object_number, subject_number, tense, top_constituents
from depthlab.data.folders import is_of
from depthlab.data.treebanks.trees import CONLLU, read_brackets, read_conllu
from depthlab.errors import UserError, say_left_out
from depthlab.files import writing

LENGTHS = range(5, 29)
SEQUENCES = 19
OTHER = "OTHER"
DEPENDENCIES: dict[str, Callable[[list[Token]], str | None]] = {
    "tense": tense,
    "subj_number": subject_number,
    "obj_number": object_number,
}
"""The tasks of CoNLL-U, and their rules; that of brackets is `TOP`."""
TOP = "top_constituents"
NEEDED = {
    "tense": "the features Tense, Mood and VerbForm (column 6)",
    "subj_number": "the feature Number (column 6) and the relation nsubj (column 8)",
    "obj_number": "the feature Number (column 6) and the relation obj (column 8)",
    TOP: "brackets of whole sentences, and the part of speech `.` at their ends",
}


class Labelled(NamedTuple):
    """A sentence and its label in a task; id and document are its treebank's."""

    id: str
    document: str
    text: str
    label: str


def derive(files: Iterable[Path]) -> dict[str, list[Labelled]]:
    """All sentences of the right length to which a task's rule gives a label, by task.

    Those that are no trees of their words are left out and named.

    The label of top constituents is the whole sequence, however rare.

    Raises:
        UserError: a file can't be read.
    """
    derived: dict[str, list[Labelled]] = {}
    seen: set[tuple[str, ...]] = set()
    left_out: list[str] = []
    for file in files:
        is_conllu = is_of(file, CONLLU)
        rules = DEPENDENCIES if is_conllu else {TOP: top_constituents}
        for task in rules:
            derived.setdefault(task, [])
        for sentence in read_conllu(file, left_out) if is_conllu else read_brackets(file):
            text = " ".join(sentence.words)
            if len(sentence.words) not in LENGTHS or (is_conllu, text) in seen:
                continue
            seen.add((is_conllu, text))
            for task, rule in rules.items():
                label = rule(sentence.tree)
                if label is not None:
                    derived[task].append(Labelled(sentence.id, sentence.document, text, label))
    say_left_out(left_out, "are no trees of their words")
    return derived


def classes(sentences: Sequence[Labelled]) -> list[Labelled]:
    """The most frequent labels as they are, of equally frequent ones the first in the alphabet; OTHER for the rest."""
    counts = Counter(sentence.label for sentence in sentences)
    kept = sorted(counts, key=lambda label: (-counts[label], label))[:SEQUENCES]
    return [sentence if sentence.label in kept else sentence._replace(label=OTHER) for sentence in sentences]


def side_of(document: str) -> str:
    """The split that a document belongs to: tr, va or te."""
    percent = int.from_bytes(hashlib.sha256(document.encode()).digest()) % 100
    return "va" if percent < 15 else "te" if percent < 30 else "tr"


def balance(task: str, sentences: Sequence[Labelled]) -> dict[str, list[Labelled]]:
    """What each side takes, shuffled; the same for the same sentences.

    Raises:
        UserError: a side lacks sentences of a label, or, of top constituents, has none at all.
    """
    if not sentences:
        raise UserError(f"{task}: no sentence of --treebank gets a label, which needs {NEEDED[task]}; leave it out")
    random = np.random.default_rng(0)
    labels = sorted({sentence.label for sentence in sentences})
    sides = {}
    for side, split in PROBING_SPLITS.items():
        groups = [[s for s in sentences if s.label == label and side_of(s.document) == side] for label in labels]
        counts = [len(group) for group in groups]
        most = int(np.quantile(counts, 0.75)) if task == TOP else min(counts)
        if len(labels) < 2 or most == 0:
            raise UserError(
                f"{task}: in {split} ({side}) there are {_listed(labels, counts)}: too few; give more treebanks"
            )
        taken = [group[number] for group in groups for number in random.permutation(len(group))[:most]]
        sides[side] = [taken[number] for number in random.permutation(len(taken))]
    return sides


def _listed(labels: Sequence[str], counts: Sequence[int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in zip(labels, counts, strict=True))


def write(tasks: dict[str, dict[str, list[Labelled]]], target: Path) -> None:
    """Write a file for each task; the folder appears only when it is complete.

    Raises:
        UserError: it cannot be written.
    """
    with writing("--to", target) as unfinished:
        unfinished.mkdir()
        for task, sides in tasks.items():
            lines = [f"{side}\t{s.label}\t{s.text}\n" for side, sentences in sides.items() for s in sentences]
            (unfinished / f"{PROBING_TASKS[task]}.txt").write_text("".join(lines), encoding="utf-8")


def count_table(task: str, labelled: int, sides: dict[str, list[Labelled]]) -> str:
    """How many sentences of each label each side has, as Markdown."""
    counts = {side: Counter(sentence.label for sentence in sentences) for side, sentences in sides.items()}
    documents = {side: len({sentence.document for sentence in sentences}) for side, sentences in sides.items()}
    rows = [
        (f"{task} (of {labelled:,} sentences)", *sides),
        ("---", *("---:" for _ in sides)),
        *((label, *(f"{counts[side][label]:,}" for side in sides)) for label in sorted(set().union(*counts.values()))),
        ("all", *(f"{counts[side].total():,}" for side in sides)),
        ("documents", *(f"{documents[side]:,}" for side in sides)),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
