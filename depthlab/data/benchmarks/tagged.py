"""Sentences with a tag for each word: parts of speech in CoNLL-U, tags of names and chunks in two-column BIO files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from depthlab.data.lines import read_lines
from depthlab.data.tokenization import TextEncoder
from depthlab.data.treebanks.alignment import Sentence, Treebank, Word, align, read_treebank
from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED


class TaggedExamples(NamedTuple):
    """A split as it was read.

    Attributes:
        sentences: With their words.
        labels: Of each sentence the index of each word's tag, `NOT_PREDICTED` where it has none; None if no word has.
        skipped: Sentences that were left out.
    """

    sentences: list[Sentence]
    labels: list[list[int]] | None
    skipped: int

    @property
    def texts(self) -> list[list[str]]:
        """As those of `Examples`."""
        return [[sentence.text for sentence in self.sentences]]

    def pieces(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list[list[int]]]:
        """Columns of a data set: `input_ids`, `token_type_ids`, `words` and, where there are tags, `label`.

        A word is tagged at its first piece, as in BERT: `words` has its number there, and -1 elsewhere. What is over
        `max_length` is cut off.
        """
        columns: dict[str, list[list[int]]] = {"input_ids": [], "token_type_ids": [], "words": []}
        if self.labels is not None:
            columns["label"] = []
        encode = TextEncoder(tokenizer)
        for number, sentence in enumerate(self.sentences):
            ids, words = align(sentence, encode)
            if len(ids) > max_length:
                ids, words = [*ids[: max_length - 1], ids[-1]], [*words[: max_length - 1], None]
            seen: set[int | None] = {None}
            firsts = [-1 if word in seen or seen.add(word) else word for word in words]
            columns["input_ids"].append(ids)
            columns["token_type_ids"].append([0] * len(ids))
            columns["words"].append(firsts)
            if self.labels is not None:
                tags = self.labels[number]
                columns["label"].append([NOT_PREDICTED if word < 0 else tags[word] for word in firsts])
        return columns


def read_bio(file: Path) -> Treebank:
    """Read a word a line, its tag in the last column; a blank line ends a sentence, "-DOCSTART-" is no word.

    Columns part at tabs, or at spaces where there is no tab.

    Raises:
        UserError: It can't be read, a line has one column, or there is no sentence.
    """
    sentences: list[Sentence] = []
    words: list[tuple[str, str]] = []
    first = 1
    for number, line in [*read_lines(file, "data.train"), (0, "")]:
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        if not any(fields) or fields[0] == "-DOCSTART-":
            if words:
                sentences.append(_sentence(f"{file.name}, line {first}", file.name, words))
            words = []
            continue
        if len(fields) < 2 or not fields[0] or not fields[-1]:
            raise UserError(f"{file}, line {number}: not a word and its tag; mend or remove the line")
        first = first if words else number
        words.append((fields[0], fields[-1]))
    if not sentences:
        raise UserError(f"{file}: no sentence in it; a line holds a word and its tag, a blank line ends a sentence")
    return Treebank(sentences, [])


def _sentence(id_: str, document: str, tagged: Sequence[tuple[str, str]]) -> Sentence:
    words, text = [], ""
    for form, tag in tagged:
        start = len(text) + (1 if text else 0)
        text = f"{text} {form}" if text else form
        words.append(Word(form, tag, None, (start, start + len(form))))
    return Sentence(id_, document, text, words)


READERS: dict[str, Callable[[Path], Treebank]] = {
    ".conllu": read_treebank,
    **dict.fromkeys((".bio", ".iob", ".iob2", ".conll"), read_bio),
}
"""By suffix; each may be gzipped (.gz). The tag of a word has the place of its part of speech."""
