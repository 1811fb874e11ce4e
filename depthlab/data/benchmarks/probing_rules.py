"""Which label a gold tree gives its sentence in four of SentEval's probing tasks; None where the task leaves it out.

SentEval (Conneau et al. 2018, and the README of its data/probing) has the Stanford parser's trees. The rules follow it
on gold trees, and leave out what in those is a matter of convention. Words are those of a sentence in Universal
Dependencies.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from conllu import Token

from depthlab.data.treebanks.trees import Constituent

TENSES = {"Past": "PAST", "Pres": "PRES"}
NUMBERS = {"Sing": "NN", "Plur": "NNS", "Ptan": "NNS"}
"""By the feature Number; Ptan are those that have a plural only: "scissors"."""
AUXILIARIES = ("aux", "aux:pass", "cop")
PUNCTUATION = frozenset((",", ":", ".", "``", "''", "-LRB-", "-RRB-", "HYPH", "NFP"))
OUTERMOST = ("", "ROOT", "TOP")
SINGLE = {"RB": "ADVP", "UH": "INTJ"}
"""Words whose phrase some trees leave out, or call now this, now that."""
ASKING = {"WP": "WHNP", "WP$": "WHNP", "WDT": "WHNP", "WRB": "WHADVP"}
"""Words that ask, and the phrase that they make."""


class MainClause(NamedTuple):
    """The root, what depends on it, and the first finite word among its auxiliaries, its copula and itself."""

    root: Token
    dependents: list[Token]
    finite: Token


def tense(words: list[Token]) -> str | None:
    """PAST or PRES: the tense of the main clause's finite verb, a full verb (VBD; VBP, VBZ), an auxiliary or a copula.

    "She has gone" is PRES, "did she go" PAST. An imperative, a subjunctive and what a modal verb governs have none.
    """
    clause = _main_clause(words)
    if clause is None or _feature(clause.finite, "Mood") != "Ind":
        return None
    return TENSES.get(_feature(clause.finite, "Tense"))


def subject_number(words: list[Token]) -> str | None:
    """NN or NNS: the number of the noun that is the main clause's subject, of an active or a passive verb.

    Left out are clauses with several subjects, with a subject that is coordinated ("a king and a queen") or no common
    noun (pronouns, names), and with "there" or "it" in its place ("there are crows").
    """
    clause = _main_clause(words)
    if clause is None or "expl" in map(_relation, clause.dependents):
        return None
    return _number([word for word in clause.dependents if _relation(word) in ("nsubj", "csubj")], words)


def object_number(words: list[Token]) -> str | None:
    """NN or NNS: the number of the noun that is the direct object of the main clause's verb, imperatives included.

    Left out are clauses with several objects, and with one that is coordinated or no common noun.
    """
    clause = _main_clause(words)
    if clause is None or clause.root["upos"] != "VERB":
        return None
    return _number([word for word in clause.dependents if _relation(word) == "obj"], words)


def top_constituents(outermost: Constituent) -> str | None:
    """The categories of the constituents beneath the sentence's node, such as `NP_VP_.`.

    The node is the one below ROOT, whatever it is. Function tags, indices and traces do not count. As in SentEval,
    sentences are left out that do not end with the category `.`, or have punctuation or quotes between constituents.
    Where trees differ, a single adverb is an ADVP and a single interjection (UH) an INTJ, with or without a phrase of
    its own; and in a question (SBARQ) the phrase that asks is WHNP or WHADVP, also where it is the subject.

    Args:
        outermost: Bracket of a sentence.
    """
    is_shell = outermost.label in OUTERMOST and len(outermost.children) == 1
    top = outermost.children[0] if is_shell else outermost
    asks = _category(top) == "SBARQ"
    categories = [_phrase(child, asks) for child in top.children if child.words]
    if not categories or categories[-1] != "." or PUNCTUATION.intersection(categories[:-1]):
        return None
    return "_".join(categories)


def _main_clause(words: list[Token]) -> MainClause | None:
    """None where there is no finite verb, or trees have two clauses on one head.

    Those are clauses with another for a predicate ("the problem is that it rains": `nsubj:outer`), and clauses side by
    side (parataxis), of which the first is the root even if it is what somebody says in the second.
    """
    root = next(word for word in words if word["head"] == 0)
    dependents = [word for word in words if word["head"] == root["id"]]
    if any(word["deprel"].endswith(":outer") or _relation(word) == "parataxis" for word in dependents):
        return None
    auxiliaries = [word for word in dependents if word["deprel"] in AUXILIARIES]
    verbs = sorted([root, *auxiliaries], key=lambda word: word["id"])
    finite = next((word for word in verbs if _feature(word, "VerbForm") == "Fin"), None)
    return None if finite is None else MainClause(root, dependents, finite)


def _number(nouns: list[Token], words: list[Token]) -> str | None:
    if len(nouns) != 1 or nouns[0]["upos"] != "NOUN":
        return None
    if any(word["head"] == nouns[0]["id"] and _relation(word) == "conj" for word in words):
        return None
    return NUMBERS.get(_feature(nouns[0], "Number"))


def _relation(word: Token) -> str:
    """Without its subtype."""
    return word["deprel"].partition(":")[0]


def _feature(word: Token, name: str) -> str | None:
    return (word["feats"] or {}).get(name)


def _category(node: Constituent) -> str:
    """Without function tags (NP-SBJ), indices (NP=2) and the second of two categories (ADVP|PRT)."""
    return node.label if node.label.startswith("-") else re.split(r"[-=|]", node.label)[0]


def _phrase(node: Constituent, asks: bool) -> str:
    category = _category(node)
    parts_of_speech = list(_parts_of_speech(node))
    if asks and (node.word is not None or category in ("NP", "ADVP")):
        for part_of_speech in parts_of_speech:
            if part_of_speech in ASKING:
                return ASKING[part_of_speech]
    return SINGLE.get(parts_of_speech[0], category) if len(parts_of_speech) == 1 else category


def _parts_of_speech(node: Constituent) -> Iterator[str]:
    if node.word is not None and node.words:
        yield node.label
    for child in node.children:
        yield from _parts_of_speech(child)
