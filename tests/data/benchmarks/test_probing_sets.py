import csv
import random
import re
import statistics
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from depthlab.cli import main
from depthlab.commands.data import make_probing_sets
from depthlab.data.benchmarks.probing import PROBING_TASKS
from depthlab.data.benchmarks.probing_sets import TOP, balance, classes, derive, side_of
from depthlab.errors import UserError
from tests.data.treebanks.treebank_fixtures import conllu
from tests.support import SHARED, error_of

NAMES = {"past": "PAST", "pres": "PRES", "sing": "NN", "plur": "NNS"}
SIDES = ["tr", "va", "te"]
TASKS = ["tense", "subj_number", "obj_number", TOP]


class Truth:
    """What a treebank was made from: the document of each text, and its label in each task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents: dict[str, str] = {}
        self.labels: dict[str, dict[str, str]] = {task: {} for task in TASKS}

    def write(self, documents: int = 60) -> None:
        """Documents of 12 sentences each in CoNLL-U, and other 12 in brackets."""
        draw = random.Random(0)
        dependencies, brackets = "", ""
        for document in (f"d{number}" for number in range(documents)):
            dependencies += f"# newdoc id = {document}\n"
            brackets += f"# newdoc id = {document}\n"
            for name in (f"{document}x{number}" for number in range(12)):
                tense, subject, object_ = draw.choice(["past", "pres", "pres"]), *draw.choices(["sing", "plur"], k=2)
                dependencies += conllu(
                    f"Some/DET/det/2 {subject}/NOUN/nsubj/3/{subject} {tense}/VERB/root/0/{tense} "
                    f"{object_}/NOUN/obj/3/{object_} {name}/X/dep/3"
                )
                labels = (NAMES[value] for value in (tense, subject, object_))
                self._add(document, f"Some {subject} {tense} {object_} {name}", zip(TASKS, labels, strict=False))
                category = f"C{chr(65 + min(int(draw.expovariate(1 / 5)), 23))}"  # CA is the most frequent
                brackets += f"(ROOT (S ({category} (X a) (X b)) (VP (X c) (X {name})) (. .)))\n"
                self._add(document, f"a b c {name} .", [(TOP, f"{category}_VP_.")])
        self.folder.mkdir()
        (self.folder / "trees.conllu").write_text(dependencies)
        (self.folder / "trees.ptb").write_text(brackets)

    def _add(self, document, text, labels):
        self.documents[text] = document
        for task, label in labels:
            self.labels[task][text] = label

    def rows(self, folder: Path, task: str) -> list[tuple[str, str, str]]:
        """Side, label and text of each line that was made, and a look at the rest."""
        rows = [line.split("\t") for line in (folder / f"{PROBING_TASKS[task]}.txt").read_text().splitlines()]
        sides = [side for side, _, _ in rows]
        assert sides == sorted(sides, key=SIDES.index) and {*sides} == {*SIDES}
        assert len({text for _, _, text in rows}) == len(rows)
        return rows


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    truth = Truth(tmp_path_factory.mktemp("treebank") / "trees")
    truth.write()
    return truth


@pytest.fixture(scope="module")
def made(truth):
    make_probing_sets(treebank=[str(truth.folder)], to=str(truth.folder.parent / "made"))
    return truth.folder.parent / "made"


def test_no_document_is_on_two_sides(truth, made):
    """Neither of a task nor of different tasks."""
    sides = defaultdict(set)
    for task in TASKS:
        for side, _, text in truth.rows(made, task):
            sides[side].add(truth.documents[text])
    assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 60


def test_a_documents_side_does_not_depend_on_others(truth, made, tmp_path):
    sides = {truth.documents[text]: side for side, _, text in truth.rows(made, "tense")}
    some = (truth.folder / "trees.conllu").read_text().partition("# newdoc id = d40\n")[0]
    (tmp_path / "some.conllu").write_text(some)
    make_probing_sets(treebank=[str(tmp_path / "some.conllu")], to=str(tmp_path / "made"))
    again = {truth.documents[text]: side for side, _, text in truth.rows(tmp_path / "made", "tense")}
    assert len(again) == 40 and again.items() <= sides.items()
    shares = Counter(side_of(f"document {number}") for number in range(10_000))
    assert abs(shares["va"] - 1500) < 150 and abs(shares["te"] - 1500) < 150  # four standard deviations


@pytest.mark.parametrize("task", TASKS[:3])
def test_two_labels_are_balanced(truth, made, task):
    rows = truth.rows(made, task)
    assert all(truth.labels[task][text] == label for _, label, text in rows)
    sides = {truth.documents[text]: side for side, _, text in rows}
    true = Counter((sides[truth.documents[text]], label) for text, label in truth.labels[task].items())
    taken = Counter((side, label) for side, label, _ in rows)
    for side in SIDES:
        pair = [label for other, label in true if other == side]
        assert len(pair) == 2
        assert {taken[side, label] for label in pair} == {min(true[side, label] for label in pair)}
    training = [label for side, label, _ in rows if side == "tr"]
    assert training not in (sorted(training), sorted(training, reverse=True))


def test_top_constituents(truth, made):
    """The 19 most frequent and OTHER, and at most the upper quartile of each side's counts."""
    rows = truth.rows(made, TOP)
    counts = Counter(truth.labels[TOP].values())
    assert len(counts) == 23
    kept = sorted(counts, key=lambda label: (-counts[label], label))[:19]
    classes_ = {text: label if label in kept else "OTHER" for text, label in truth.labels[TOP].items()}
    assert all(classes_[text] == label for _, label, text in rows)
    sides = {truth.documents[text]: side for side, _, text in rows}
    for side in SIDES:
        true = Counter(dict.fromkeys((*kept, "OTHER"), 0))
        true.update(label for text, label in classes_.items() if sides[truth.documents[text]] == side)
        most = int(statistics.quantiles(true.values(), n=4, method="inclusive")[2])
        taken = Counter(label for other, label, _ in rows if other == side)
        assert taken == +Counter({label: min(count, most) for label, count in true.items()})


def test_the_same_again(truth, made, tmp_path):
    files = [str(truth.folder / f"trees.{kind}") for kind in ("ptb", "conllu")]
    make_probing_sets(treebank=files, to=str(tmp_path / "again"))
    for task in TASKS:
        file = f"{PROBING_TASKS[task]}.txt"
        assert (tmp_path / "again" / file).read_bytes() == (made / file).read_bytes()


def test_counts_are_printed(truth, tmp_path, capsys):
    main(["data", "probing", "--treebank", *map(str, sorted(truth.folder.iterdir())), "--to", str(tmp_path / "made")])
    printed = capsys.readouterr().out
    rows = truth.rows(tmp_path / "made", "tense")
    numbers = [sum(side == other and label == "PAST" for other, label, _ in rows) for side in SIDES]
    assert "| tense (of 720 sentences) | tr | va | te |" in printed
    assert f"| PAST | {numbers[0]} | {numbers[1]} | {numbers[2]} |" in printed
    assert "| OTHER |" in printed and str(tmp_path / "made/past_present.txt") in printed


def test_lengths_and_equal_sentences(tmp_path):
    def bark(adverbs: int, document: str) -> str:
        words = "Dogs/NOUN/nsubj/2/plur bark/VERB/root/0/pres " + "so/ADV/advmod/2 " * adverbs
        return conllu(words, f"newdoc id = {document}")

    (tmp_path / "trees.conllu").write_text("".join(bark(n, f"d{n}") for n in (2, 3, 26, 27)) + bark(3, "another"))
    found = derive([tmp_path / "trees.conllu"])
    assert [(s.document, len(s.text.split())) for s in found["tense"]] == [("d3", 5), ("d26", 28)]
    assert [s.label for s in found["subj_number"]] == ["NNS", "NNS"] and found["obj_number"] == []


# Bad input


def test_a_treebank_without_features(tmp_path, capsys):
    words = "Dogs/NOUN/nsubj/2 bark/VERB/root/0 so/ADV/advmod/2 " + "so/ADV/dep/2 " * 3
    (tmp_path / "trees.conllu").write_text(conllu(words))
    error = error_of(capsys, ["data", "probing", "--treebank", str(tmp_path), "--to", str(tmp_path / "made")])
    assert "tense: no sentence" in error and "Tense, Mood and VerbForm (column 6)" in error
    assert [file.name for file in tmp_path.iterdir()] == ["trees.conllu"]


def test_what_can_be_made_is_made(truth, tmp_path, capsys):
    """No word says its number: there is tense alone, and the reason for the others."""
    text = re.sub(r"Number=\w+\|?", "", (truth.folder / "trees.conllu").read_text())
    (tmp_path / "trees.conllu").write_text(text)
    main(["data", "probing", "--treebank", str(tmp_path / "trees.conllu"), "--to", str(tmp_path / "made")])
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["past_present.txt"]
    printed = capsys.readouterr().out
    assert f"written   {tmp_path}/made/past_present.txt" in printed
    for task in ("subj_number", "obj_number"):
        assert re.search(
            rf"left out  {task}: no sentence of --treebank gets a label, which needs the feature Number", printed
        )


def test_a_treebank_that_is_too_small(truth, tmp_path):
    first = (truth.folder / "trees.conllu").read_text().partition("# newdoc id = d1\n")[0]
    (tmp_path / "first.conllu").write_text(first)
    with pytest.raises(UserError, match=r"tense: in \w+ \(..\) there are 0 PAST, 0 PRES: too few; give more"):
        make_probing_sets(treebank=[str(tmp_path / "first.conllu")], to=str(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


def test_nothing_is_overwritten(truth, made, capsys):
    before = {file.name: file.read_bytes() for file in made.iterdir()}
    command = ["data", "probing", "--treebank", str(truth.folder), "--to"]
    assert f"--to {made} exists already" in error_of(capsys, [*command, str(made)])
    assert "cannot write --to" in error_of(capsys, [*command, str(made / "past_present.txt/made")])
    assert {file.name: file.read_bytes() for file in made.iterdir()} == before


def test_a_line_that_is_broken(tmp_path, capsys):
    (tmp_path / "trees.conllu").write_text("1\tDogs\n")
    error = error_of(capsys, ["data", "probing", "--treebank", str(tmp_path), "--to", str(tmp_path / "made")])
    assert "trees.conllu, line 1: 2 columns" in error


# Gold treebanks


@pytest.fixture(scope="module")
def gold(tmp_path_factory):
    """What the rules make of EWT, GUM and the sample of the Penn Treebank, without their tests."""
    folder = tmp_path_factory.mktemp("ptb")
    with zipfile.ZipFile(SHARED / "ptb-sample/treebank.zip") as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".mrg")])
    files = [SHARED / f"ud-english-ewt/en_ewt-ud-{split}.conllu.gz" for split in ("train", "dev")]
    files += [SHARED / f"gum/gum-{split}.{kind}.gz" for split in ("train", "dev") for kind in ("conllu", "ptb")]
    found = derive([*files, *sorted(folder.rglob("*.mrg"))])
    assert all(len({sentence.id for sentence in sentences}) == len(sentences) for sentences in found.values())
    return found


READ = [*(("drawn", task, 0.95) for task in TASKS), ("balanced", TOP, 0.9)]


@pytest.mark.full
@pytest.mark.parametrize(("draw", "task", "least"), READ)
def test_labels_agree_with_those_of_a_reader(gold, draw, task, least):
    """Sixty sentences of each task, drawn from all that get a label, were labelled by reading them, the tree unseen.

    Tense, subject and object number: 60 of 60 each. Top constituents: 57 of 60 classes (56 whole sequences). It was 56
    (55) before a lone interjection became an INTJ whatever its phrase is called, the one change made upon comparing;
    two of the sixty had been seen with their labels before. What is left: a coordination that the reader missed, an
    initialism that the treebank reads as "who", half a word.

    Most of these are NP_VP_. A second sixty, of the balanced sets, say more of the rare labels: 56 of 60 (54
    sequences), with nothing changed afterwards; five had been seen with their labels before. The reader and the
    treebank differ in adverbial nouns ("tonight") and in speech that breaks off.
    """
    with (Path(__file__).parent / "probing_labels.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if (row["draw"], row["task"]) == (draw, task)]
    read = {row["id"]: row["label"] for row in rows}
    sentences = classes(gold[task]) if task == TOP else gold[task]
    labels = {sentence.label for sentence in sentences}
    both = [(read[s.id], s.label) for s in sentences if s.id in read]
    agreed = [ours == theirs or (ours not in labels and theirs == "OTHER") for ours, theirs in both]
    assert len(agreed) == 60
    assert sum(agreed) / 60 >= least


@pytest.mark.full
@pytest.mark.parametrize(("task", "least"), [("tense", 4000), ("subj_number", 1200), ("obj_number", 1000), (TOP, 900)])
def test_gold_treebanks_give_enough_to_train_on(gold, task, least):
    sides = balance(task, classes(gold[task]) if task == TOP else gold[task])
    assert len(sides["tr"]) > least and min(len(sides["va"]), len(sides["te"])) > least / 10
