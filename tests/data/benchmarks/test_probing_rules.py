import conllu as library
import pytest

from depthlab.data.benchmarks.probing_rules import object_number, subject_number, tense, top_constituents
from depthlab.data.treebanks.trees import read_brackets
from tests.data.treebanks.treebank_fixtures import conllu

CLAUSES = """
full verb: PAST NN NNS
    The/DET/det/2 dog/NOUN/nsubj/3/sing ate/VERB/root/0/past bones/NOUN/obj/3/plur
copula: PRES NNS -
    Dogs/NOUN/nsubj/3/plur are/AUX/cop/3/pres old/ADJ/root/0
noun as predicate: PAST NNS -
    Dogs/NOUN/nsubj/4/plur were/AUX/cop/4/past no/DET/det/4 help/NOUN/root/0/sing
perfect: PRES NNS NNS
    Dogs/NOUN/nsubj/3/plur have/AUX/aux/3/pres eaten/VERB/root/0/participle bones/NOUN/obj/3/plur
perfect of a copula: PAST NNS -
    Dogs/NOUN/nsubj/4/plur had/AUX/aux/4/past been/AUX/cop/4/participle old/ADJ/root/0
passive: PAST NNS -
    Bones/NOUN/nsubj:pass/3/plur were/AUX/aux:pass/3/past eaten/VERB/root/0/participle
modal: - NNS NN
    Dogs/NOUN/nsubj/3/plur will/AUX/aux/3/modal have/VERB/root/0/infinitive fun/NOUN/obj/3/sing
modal perfect: - NNS -
    Dogs/NOUN/nsubj/4/plur may/AUX/aux/4/modal have/AUX/aux/4/infinitive barked/VERB/root/0/participle
question: PAST NNS -
    Did/AUX/aux/3/past dogs/NOUN/nsubj/3/plur eat/VERB/root/0/infinitive ?/PUNCT/punct/3
imperative: - - NN
    Bring/VERB/root/0/imperative us/PRON/iobj/1/plur a/DET/det/4 bone/NOUN/obj/1/sing
subjunctive: - NN NNS
    God/NOUN/nsubj/2/sing save/VERB/root/0/subjunctive dogs/NOUN/obj/2/plur
coordinated subject: PRES - -
    Man/NOUN/nsubj/4/sing and/CCONJ/cc/3 dog/NOUN/conj/1/sing sleep/VERB/root/0/pres
coordinated object: PAST - -
    She/PRON/nsubj/2/sing ate/VERB/root/0/past bread/NOUN/obj/2/sing and/CCONJ/cc/5 eggs/NOUN/conj/3/plur
the first of coordinated clauses: PAST NNS -
    Dogs/NOUN/nsubj/2/plur slept/VERB/root/0/past and/CCONJ/cc/5 he/PRON/nsubj/5/sing reads/VERB/conj/2/pres
there: PRES - -
    There/PRON/expl/2 are/VERB/root/0/pres dogs/NOUN/nsubj/2/plur
it: PRES - -
    It/PRON/expl/3/sing is/AUX/cop/3/pres clear/ADJ/root/0 dogs/NOUN/nsubj/5/plur bark/VERB/csubj/3/pres
clause as subject: PRES - NN
    Walking/VERB/csubj/3 dogs/NOUN/obj/1/plur takes/VERB/root/0/pres time/NOUN/obj/3/sing
pronouns and names: PAST - -
    She/PRON/nsubj/2/sing saw/VERB/root/0/past Rome/PROPN/obj/2/sing
subordinate clause: PRES - -
    He/PRON/nsubj/2/sing says/VERB/root/0/pres dogs/NOUN/nsubj/4/plur ate/VERB/ccomp/2/past it/PRON/obj/4/sing
clause as predicate: - - -
    The/DET/det/2 idea/NOUN/nsubj:outer/5/sing is/AUX/cop/5/pres dogs/NOUN/nsubj/5/plur eat/VERB/root/0/pres
parataxis: - - -
    Dogs/NOUN/nsubj/2/plur bark/VERB/root/0/pres he/PRON/nsubj/4/sing said/VERB/parataxis/2/past
no finite verb: - - -
    Leaving/VERB/root/0 dogs/NOUN/obj/1/plur out/ADV/advmod/1
no features: - - -
    Dogs/NOUN/nsubj/2 ate/VERB/root/0 bones/NOUN/obj/2
plural only: PAST - NNS
    She/PRON/nsubj/2 sold/VERB/root/0/past scissors/NOUN/obj/2/ptan
object of an adjective: PRES NNS -
    Dogs/NOUN/nsubj/3/plur are/AUX/cop/3/pres worth/ADJ/root/0 money/NOUN/obj/3/sing
two subjects, two objects: PRES - -
    Dog/NOUN/nsubj/3/sing dogs/NOUN/nsubj/3/plur eat/VERB/root/0/pres bread/NOUN/obj/3/sing eggs/NOUN/obj/3/plur
"""
"""What it shows; tense, number of the subject, number of the object; the tree."""


def clauses():
    lines = CLAUSES.strip().splitlines()
    for name, tree in zip(lines[::2], lines[1::2], strict=True):
        name, _, labels = name.partition(": ")
        yield pytest.param(tree, tuple(None if label == "-" else label for label in labels.split()), id=name)


@pytest.mark.parametrize(("tree", "expected"), [*clauses()])
def test_tense_and_numbers(tree, expected):
    (words,) = library.parse(conllu(tree))
    assert (tense(words), subject_number(words), object_number(words)) == expected


SEQUENCES = {  # what it shows: the tree; the sequence
    "plain": ("(ROOT (S (NP (NNS Dogs)) (VP (VBP bark)) (. .)))", "NP_VP_."),
    "no label at the top": ("( (S (NP (NNS Dogs)) (VP (VBP bark)) (. .)))", "NP_VP_."),
    "no top at all": ("(S (NP (NNS Dogs)) (VP (VBP bark)) (. .))", "NP_VP_."),
    "several below the top": ("(ROOT (NP (NN x)) (. .))", "NP_."),
    "function tags and indices": ("(ROOT (S (PP-LOC-1 (IN x)) (NP-SBJ=2 (NN x)) (VP (VBP x)) (. !)))", "PP_NP_VP_."),
    "two categories": ("(ROOT (S (ADVP|PRT (RB x) (RB y)) (VP (VB x)) (. .)))", "ADVP_VP_."),
    "traces are nothing": ("( (S (NP-SBJ (-NONE- *)) (VP (VB Go) (NP (-NONE- *T*-1))) (. .)))", "VP_."),
    "coordination": ("(ROOT (S (S (NP (NN x))) (CC and) (S (VP (VB x))) (. .)))", "S_CC_S_."),
    "single words": ("(ROOT (S (UH Oh) (RB now) (NP (PRP I)) (VP (VBP go)) (. .)))", "INTJ_ADVP_NP_VP_."),
    "whatever their phrase": ("(ROOT (S (ADVP (UH Oh)) (INTJ (RB now)) (NP (PRP I)) (. .)))", "INTJ_ADVP_NP_."),
    "a word with a trace": ("(ROOT (S (VP (-NONE- *) (UH Oh)) (NP (NN x) (NN y)) (. .)))", "INTJ_NP_."),
    "a question": ("(ROOT (SBARQ (WHNP (WP What)) (SQ (VBZ is) (NP (DT this))) (. ?)))", "WHNP_SQ_."),
    "who asks is the subject": ("(ROOT (SBARQ (NP-SBJ (WP Who)) (SQ (VP (VBZ asks))) (. ?)))", "WHNP_SQ_."),
    "a bare word that asks": ("(ROOT (SBARQ (WRB Why) (SQ (VBZ is) (NP (DT this))) (. ?)))", "WHADVP_SQ_."),
    "a word that asks elsewhere": ("(ROOT (S (NP (WP What) (NN x)) (VP (VBZ x)) (. .)))", "NP_VP_."),
    "an inverted question": ("(ROOT (SQ (VBP Do) (NP (PRP you)) (VP (VB go)) (. ?)))", "VBP_NP_VP_."),
    "no full stop": ("(ROOT (S (NP (NNS Dogs)) (VP (VBP bark))))", None),
    "a colon at the end": ("(ROOT (S (NP (NNS Dogs)) (VP (VBP bark)) (: :)))", None),
    "a comma between": ("(ROOT (S (PP (IN x) (NN y)) (, ,) (NP (NN x)) (VP (VBP x)) (. .)))", None),
    "quotes": ("(ROOT (S (`` ``) (NP (NN x)) (VP (VBP x)) (. .)))", None),
    "quotes after the full stop": ("(ROOT (S (NP (NN x)) (VP (VBP x)) (. .) ('' '')))", None),
    "a comma within": ("(ROOT (S (NP (NP (NN x)) (, ,) (NP (NN y))) (VP (VBP x)) (. .)))", "NP_VP_."),
    "a single word": ("(ROOT (NN x))", None),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_top_constituents(tmp_path, name):
    text, expected = SEQUENCES[name]
    (tmp_path / "tree.ptb").write_text(text)
    (sentence,) = read_brackets(tmp_path / "tree.ptb")
    assert top_constituents(sentence.tree) == expected
