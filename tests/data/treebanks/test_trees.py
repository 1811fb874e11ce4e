import gzip

import pytest

from depthlab.data.treebanks.trees import read_brackets, read_conllu, treebank_files
from depthlab.errors import UserError

from .treebank_fixtures import conllu

BARK = "Dogs/NOUN/nsubj/2/plur bark/VERB/root/0/pres"
WORD = "1\tDogs\tdog\tNOUN\t_\t_\t0\troot\t_\t_\n"


def written(tmp_path, text, name="tree.conllu"):
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


@pytest.mark.parametrize("name", ["tree.conllu", "tree.conllu.gz"])
def test_sentences_of_conllu(tmp_path, name):
    text = conllu(BARK, "newdoc id = first", "sent_id = f-7") + conllu(BARK) + conllu(BARK, "newdoc id = second")
    found = list(read_conllu(written(tmp_path, text, name), []))
    assert [(s.id, s.document) for s in found] == [("f-7", "first"), ("first-2", "first"), ("second-1", "second")]
    assert all(s.words == ["Dogs", "bark"] and [w["head"] for w in s.tree] == [2, 0] for s in found)
    assert found[0].tree[1]["feats"] == {"Mood": "Ind", "Tense": "Pres", "VerbForm": "Fin"}


def test_documents_without_a_name(tmp_path):
    text = conllu(BARK) + conllu(BARK, "newdoc") + conllu(BARK, "newdoc").rstrip("\n")
    found = list(read_conllu(written(tmp_path, text), []))
    assert [s.id for s in found] == ["tree-1", "tree-1-1", "tree-2-1"]
    assert [s.document for s in found] == ["tree", "tree-1", "tree-2"]


def test_multiword_tokens_and_empty_nodes_are_no_words(tmp_path):
    text = (
        "1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_\n"
        "1\tDo\tdo\tAUX\t_\t_\t3\taux\t_\t_\n"
        "2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_\n"
        "3\trun\trun\tVERB\t_\t_\t0\troot\t_\t_\n"
        "3.1\trun\trun\tVERB\t_\t_\t_\t_\t0:root\t_\n\n"
    )
    (sentence,) = read_conllu(written(tmp_path, text), [])
    assert sentence.words == ["Do", "n't", "run"] and [word["id"] for word in sentence.tree] == [1, 2, 3]


BAD_CONLLU = {  # beside what test_treebank.py has of the same lines
    "a head that is no number": (WORD.replace("\t0\t", "\ttwo\t"), "line 1: 'two' is not a valid HEAD"),
}


@pytest.mark.parametrize("name", BAD_CONLLU)
def test_bad_conllu(tmp_path, name):
    text, message = BAD_CONLLU[name]
    with pytest.raises(UserError, match=rf"tree\.conllu, {message}"):
        list(read_conllu(written(tmp_path, text), []))


def test_a_sentence_that_is_no_tree_is_left_out_and_named(tmp_path):
    second = WORD.replace("1\t", "2\t", 1)
    broken = [
        WORD.replace("\t0\t", "\t_\t"),  # no head
        "# a comment\n" + WORD + second,  # two roots
        WORD + second.replace("\t0\t", "\t3\t"),  # a head beyond the end
        WORD + WORD.replace("1\t", "3\t", 1).replace("\t0\t", "\t1\t"),  # a word missing
        WORD.replace("\tDogs\t", "\t_\t"),  # its form withheld
    ]
    file, left_out = written(tmp_path, "\n".join([*broken, WORD])), []
    assert [sentence.words for sentence in read_conllu(file, left_out)] == [["Dogs"]]
    assert left_out == [f"{file}, line {line}" for line in (1, 3, 7, 10, 13)]


def test_brackets_without_end(tmp_path):
    file = written(tmp_path, "(S (NN fine))\n" + "(S " * 200_000 + "(NN x)" + ")" * 200_000, "tree.ptb")
    with pytest.raises(UserError, match=r"tree\.ptb, line 2: brackets in more than 200 others"):
        list(read_brackets(file))


def test_sentences_in_brackets(tmp_path):
    text = (
        "# newdoc id = first\n(ROOT (S (NP (NNS Dogs)) (VP (VBP bark))\n  (. .)))\n# a comment\n"
        "( (S\n    (NP-SBJ (-NONE- *)) (VP (VB Sell) (NP (CD 1\\/2) (# #) (-LRB- -LRB-) (`` ``))) ))\n"
        "# newdoc id = second\n(FRAG (NN x)) (FRAG (NN y))\n"
    )
    found = list(read_brackets(written(tmp_path, text, "wsj_0001.mrg")))
    assert [(s.id, s.document) for s in found] == [(f"{d}-{n}", d) for d in ("first", "second") for n in (1, 2)]
    assert found[0].words == ["Dogs", "bark", "."]
    assert found[1].words == ["Sell", "1/2", "#", "(", '"']
    assert found[0].tree.label == "ROOT" and found[1].tree.label == ""
    assert [child.label for child in found[1].tree.children[0].children] == ["NP-SBJ", "VP"]
    (sentence,) = read_brackets(written(tmp_path, "(S (NN x))", "wsj_0002.mrg.gz"))
    assert sentence.id == "wsj_0002-1" and sentence.document == "wsj_0002"


BAD_BRACKETS = {
    "never closed": ("(S (NN x))\n\n(S (NP\n (NN x))\n", "line 3: .*never closed"),
    "closed too often": ("(S (NN x))\n)\n", r"line 2: '\)' outside"),
    "words outside": ("(S (NN x))\ndogs\n", "line 2: 'dogs' outside"),
    "an empty bracket": ("(S (NN x)\n ())\n", "line 2: .*neither a word nor brackets"),
    "two words": ("(S\n (NN big dog))\n", "line 2: .*neither"),
    "a word beside brackets": ("(S (NN x) dog)\n", "line 1: .*neither"),
}


@pytest.mark.parametrize("name", BAD_BRACKETS)
def test_bad_brackets(tmp_path, name):
    text, message = BAD_BRACKETS[name]
    with pytest.raises(UserError, match=rf"tree\.ptb, {message}"):
        list(read_brackets(written(tmp_path, text, "tree.ptb")))


def test_files_of_treebanks(tmp_path):
    for name in ("b.mrg", "a.conllu.gz", "README", "deep/c.ptb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(file.relative_to(tmp_path)) for file in treebank_files([str(tmp_path / "b.mrg"), str(tmp_path)])]
    assert found == ["b.mrg", "a.conllu.gz", "deep/c.ptb"]
    for bad, message in (("README", "this kind of file"), ("no/such", "no such file"), ("empty", "no file ends")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=message):
            treebank_files([str(tmp_path / bad)])
