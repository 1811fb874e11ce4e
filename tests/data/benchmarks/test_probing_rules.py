import conllu as library
import pytest

from depthlab.data.benchmarks.probing_rules import object_number, subject_number, tense, top_constituents
from depthlab.data.treebanks.trees import read_brackets
from tests.data.treebanks.treebank_fixtures import conllu

CLAUSES = {  # what it shows: the tree; tense, number of the subject, number of the object
    "full verb": (
        "The/DET/det/2 dog/NOUN/nsubj/3/sing ate/VERB/root/0/past bones/NOUN/obj/3/plur",
        ("PAST", "NN", "NNS"),
    ),
    "copula": ("Dogs/NOUN/nsubj/3/plur are/AUX/cop/3/pres old/ADJ/root/0", ("PRES", "NNS", None)),
    "noun as predicate": (
        "Dogs/NOUN/nsubj/4/plur were/AUX/cop/4/past no/DET/det/4 help/NOUN/root/0/sing",
        ("PAST", "NNS", None),
    ),
    "perfect": (
        "Dogs/NOUN/nsubj/3/plur have/AUX/aux/3/pres eaten/VERB/root/0/participle bones/NOUN/obj/3/plur",
        ("PRES", "NNS", "NNS"),
    ),
    "perfect of a copula": (
        "Dogs/NOUN/nsubj/4/plur had/AUX/aux/4/past been/AUX/cop/4/participle old/ADJ/root/0",
        ("PAST", "NNS", None),
    ),
    "passive": (
        "Bones/NOUN/nsubj:pass/3/plur were/AUX/aux:pass/3/past eaten/VERB/root/0/participle",
        ("PAST", "NNS", None),
    ),
    "modal": (
        "Dogs/NOUN/nsubj/3/plur will/AUX/aux/3/modal have/VERB/root/0/infinitive fun/NOUN/obj/3/sing",
        (None, "NNS", "NN"),
    ),
    "modal perfect": (
        "Dogs/NOUN/nsubj/4/plur may/AUX/aux/4/modal have/AUX/aux/4/infinitive barked/VERB/root/0/participle",
        (None, "NNS", None),
    ),
    "question": (
        "Did/AUX/aux/3/past dogs/NOUN/nsubj/3/plur eat/VERB/root/0/infinitive ?/PUNCT/punct/3",
        ("PAST", "NNS", None),
    ),
    "imperative": (
        "Bring/VERB/root/0/imperative us/PRON/iobj/1/plur a/DET/det/4 bone/NOUN/obj/1/sing",
        (None, None, "NN"),
    ),
    "subjunctive": ("God/NOUN/nsubj/2/sing save/VERB/root/0/subjunctive dogs/NOUN/obj/2/plur", (None, "NN", "NNS")),
    "coordinated subject": (
        "Man/NOUN/nsubj/4/sing and/CCONJ/cc/3 dog/NOUN/conj/1/sing sleep/VERB/root/0/pres",
        ("PRES", None, None),
    ),
    "coordinated object": (
        "She/PRON/nsubj/2/sing ate/VERB/root/0/past bread/NOUN/obj/2/sing and/CCONJ/cc/5 eggs/NOUN/conj/3/plur",
        ("PAST", None, None),
    ),
    "coordinated clauses: the first": (
        "Dogs/NOUN/nsubj/2/plur slept/VERB/root/0/past and/CCONJ/cc/5 he/PRON/nsubj/5/sing reads/VERB/conj/2/pres",
        ("PAST", "NNS", None),
    ),
    "there": ("There/PRON/expl/2 are/VERB/root/0/pres dogs/NOUN/nsubj/2/plur", ("PRES", None, None)),
    "it": (
        "It/PRON/expl/3/sing is/AUX/cop/3/pres clear/ADJ/root/0 dogs/NOUN/nsubj/5/plur bark/VERB/csubj/3/pres",
        ("PRES", None, None),
    ),
    "clause as subject": (
        "Walking/VERB/csubj/3 dogs/NOUN/obj/1/plur takes/VERB/root/0/pres time/NOUN/obj/3/sing",
        ("PRES", None, "NN"),
    ),
    "pronouns and names": ("She/PRON/nsubj/2/sing saw/VERB/root/0/past Rome/PROPN/obj/2/sing", ("PAST", None, None)),
    "subordinate clause": (
        "He/PRON/nsubj/2/sing says/VERB/root/0/pres dogs/NOUN/nsubj/4/plur ate/VERB/ccomp/2/past it/PRON/obj/4/sing",
        ("PRES", None, None),
    ),
    "clause as predicate": (
        "The/DET/det/2 idea/NOUN/nsubj:outer/5/sing is/AUX/cop/5/pres dogs/NOUN/nsubj/5/plur eat/VERB/root/0/pres",
        (None, None, None),
    ),
    "parataxis": (
        "Dogs/NOUN/nsubj/2/plur bark/VERB/root/0/pres he/PRON/nsubj/4/sing said/VERB/parataxis/2/past",
        (None, None, None),
    ),
    "no finite verb": ("Leaving/VERB/root/0 dogs/NOUN/obj/1/plur out/ADV/advmod/1", (None, None, None)),
    "no features": ("Dogs/NOUN/nsubj/2 ate/VERB/root/0 bones/NOUN/obj/2", (None, None, None)),
    "plural only": ("She/PRON/nsubj/2 sold/VERB/root/0/past scissors/NOUN/obj/2/ptan", ("PAST", None, "NNS")),
    "object of an adjective": (
        "Dogs/NOUN/nsubj/3/plur are/AUX/cop/3/pres worth/ADJ/root/0 money/NOUN/obj/3/sing",
        ("PRES", "NNS", None),
    ),
    "two subjects, two objects": (
        "Dog/NOUN/nsubj/3/sing dogs/NOUN/nsubj/3/plur eat/VERB/root/0/pres bread/NOUN/obj/3/sing eggs/NOUN/obj/3/plur",
        ("PRES", None, None),
    ),
}


@pytest.mark.parametrize("name", CLAUSES)
def test_tense_and_numbers(name):
    text, expected = CLAUSES[name]
    (words,) = library.parse(conllu(text))
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
