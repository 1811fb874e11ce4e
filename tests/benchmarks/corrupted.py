"""Sentences of a corpus, every other with an error put in: `python -m tests.benchmarks.corrupted OUT.tsv CORPUS...`

The label says which (1: as written, 0: changed): a task without people's labels before one that has few of them (Phang
et al. 2018, intermediate tasks). With `--each N` every line is changed N times, and the changed alone are written, for
a trained model to label.
"""

import argparse
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from depthlab.data.corpora.corpus import CorpusSource, find_files, read_documents
from depthlab.data.corpora.sentences import split_sentences

MOST = 120_000
WORDS = range(4, 15)
PLAIN = re.compile(r"[A-Z][A-Za-z,;' -]+[.?!]")
ENDINGS = ("", "s", "es", "d", "ed", "n", "t", "ing", "er", "est", "ly")
"""Of words that are forms of one stem, which is a word itself."""
ALIKE = (
    "the a an this that these those some any no every each",
    "of in on at by for with from to into over under about",
    "is are was were be been being has have had having do does did",
    "he she it they him her them his its their himself herself",
    "who whom whose which what where when why how",
    "and or but because if although while that",
    "will would can could may might must should",
)
SMALL = {word: words.split() for words in ALIKE for word in words.split()}
KINDS = ("swap", "move", "drop", "insert", "replace", "form", "form", "small", "small")
"""How a sentence is changed: words in another order, one less, one more, another, another form, another small one."""


def sentences(corpus: str, in_lines: bool) -> Iterator[str]:
    """A corpus's lines of three words and more, or its sentences of 4 to 14 plain words."""
    source = CorpusSource(corpus)
    for document in read_documents(source, find_files(source)):
        if in_lines:
            yield from (line for line in document["text"].splitlines() if len(line.split()) > 2)
        else:
            found = split_sentences(document["text"])
            yield from (one for one in found if PLAIN.fullmatch(one) and len(one.split()) in WORDS)


def forms(words: set[str]) -> dict[str, list[str]]:
    """Of each word that has some, the other words of its stem."""
    families = defaultdict(set)
    for word in words:
        for stem in {word.removesuffix(ending) for ending in ENDINGS if word.endswith(ending)} & words:
            if len(stem) > 2:
                families[stem].add(word)
    found = defaultdict(set)
    for family in families.values():
        for word in family:
            found[word] |= family - {word}
    return {word: sorted(others) for word, others in found.items() if others}


class Corruption:
    """Changes a word of a sentence, or the order, by chance; words that come in are small ones, or of the sentences."""

    def __init__(self, texts: list[str], draw: random.Random) -> None:
        self.words = [word for text in texts for word in text.split()]
        self.forms = forms({word for word in self.words if word.isalpha() and word.islower()})
        self.draw = draw

    def __call__(self, text: str) -> str:
        """The text, changed; as it was where what is drawn can't be done to it."""
        words, draw = text.split(), self.draw
        place, kind = draw.randrange(len(words)), draw.choice(KINDS)
        if kind == "swap":
            place = draw.randrange(len(words) - 1)
            words[place : place + 2] = words[place : place + 2][::-1]
        elif kind == "move":
            to = draw.randrange(len(words))
            words.insert(to, words.pop(place))
        elif kind == "drop":
            del words[place]
        elif kind == "insert":
            words.insert(place, draw.choice([*SMALL] if draw.random() < 0.5 else self.words))
        elif kind == "replace":
            words[place] = draw.choice(self.words)
        else:
            groups = self.forms if kind == "form" else SMALL
            if places := [place for place, word in enumerate(words) if word in groups]:
                place = draw.choice(places)
                words[place] = draw.choice([word for word in groups[words[place]] if word != words[place]])
        return " ".join(words)


def ends_apart(sentence: str) -> tuple[str, str]:
    """Without the capital and the mark at the ends, which would give a change away; and the mark."""
    text = sentence.rstrip(".?!")
    return " ".join((text[0].lower() + text[1:]).split()), sentence[len(text) :]


def main() -> None:
    """Write them, columns sentence and label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("corpora", nargs="+")
    parser.add_argument("--each", type=int, help="change each line so many times, and write what is changed alone")
    given, draw = parser.parse_args(), random.Random(0)
    drawn = [*dict.fromkeys(sentence for corpus in given.corpora for sentence in sentences(corpus, bool(given.each)))]
    draw.shuffle(drawn)
    texts = [ends_apart(sentence.strip()) for sentence in drawn[:MOST]]
    corruption, known = Corruption([text for text, _ in texts], draw), {text for text, _ in texts}
    rows = [("sentence", "label")]
    for number, (text, end) in enumerate(texts):
        for _ in range(given.each or number % 2):
            changed = text
            while changed in known:
                changed = corruption(text)
            known.add(changed)
            rows.append((changed[0].upper() + changed[1:] + end, "0"))
        if not given.each and number % 2 == 0:
            rows.append((text[0].upper() + text[1:] + end, "1"))
    given.out.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
