"""Treebanks in CoNLL-U: sentences with their words in the text, and which word each piece of a tokenizer belongs to."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from conllu import Token
from transformers import PreTrainedTokenizerBase

from depthlab.data.tokenization import TextEncoder
from depthlab.data.treebanks.conllu import Block, read_blocks
from depthlab.errors import UserError
from depthlab.kinds import TokenKind

SPACE = -1
"""In place of a word: whose a character between words is."""
SPACES = re.compile(r"\s*")


class Word(NamedTuple):
    """A syntactic word: "do" and "n't" are two."""

    form: str
    upos: str | None
    """Part of speech; None where the treebank has none."""
    deprel: str | None
    """Relation to its head, subtype included; None where the treebank has none."""
    span: tuple[int, int] | None
    """Its characters in the sentence's text, end excluded. A multiword token that its words do not spell belongs to its
    head as a whole; the other words have None."""


class Sentence(NamedTuple):
    """A sentence of a treebank."""

    id: str
    """Its `sent_id`, or file and line."""
    document: str
    """What `# newdoc id = ...` says, or the name of the file."""
    text: str
    words: list[Word]


class Treebank(NamedTuple):
    """What a file holds."""

    sentences: list[Sentence]
    unaligned: list[str]
    """Which, where and why, of each sentence whose words are not those of its text; these are left out."""


class Pieces(NamedTuple):
    """A sentence as a tokenizer cuts it, special tokens included; P pieces."""

    input_ids: list[int]
    """[P]"""
    words: list[int | None]
    """[P], the index of each piece's word; None of special tokens."""


class AlignedTreebank(NamedTuple):
    """Sentences of treebanks as a tokenizer cuts them."""

    sentences: list[Sentence]
    pieces: list[Pieces]
    """Of each sentence."""
    unaligned: list[str]
    """Which sentences were left out since their words are not those of their text, where they are, and why."""
    too_long: list[str]
    """Ids of the sentences that were left out since they have too many pieces."""


class _NotAligned(Exception):
    """A sentence's words are not those of its text."""


def read_treebank(file: Path) -> Treebank:
    """Read a file in CoNLL-U, plain or gzipped.

    Words are found in the sentence's `# text`, in order, with nothing but whitespace between them; without a text it is
    put together from forms and `SpaceAfter=No`. The words of a multiword token ("didn't": "did", "n't") divide its
    characters where they spell it, upper and lower case aside; where they do not (French "du": "de", "le"), all of them
    belong to its head: the first word whose own head is outside of it. Empty nodes are no words, nor is
    what has its form withheld.

    Raises:
        UserError: the file can't be read or holds no sentence; a line is malformed; words are not numbered in order.
    """
    treebank = Treebank([], [])
    for block in read_blocks(file, file.name):
        rows = _in_order(file, block)
        if not rows:  # comments only
            continue
        id_ = block.metadata.get("sent_id") or f"{file.name}, line {block.line}"
        try:
            treebank.sentences.append(_sentence(id_, block.document, block.metadata.get("text"), rows))
        except _NotAligned as reason:
            treebank.unaligned.append(f"{id_} ({file}, line {block.line}): {reason}")
    if not any(treebank):
        raise UserError(f"{file}: no sentence in it; is it a treebank in CoNLL-U?")
    return treebank


def read_aligned(files: Sequence[Path], tokenizer: PreTrainedTokenizerBase, max_length: int) -> AlignedTreebank:
    """Read files in CoNLL-U and cut their sentences into pieces.

    A sentence of too many pieces is left out, as one that is not its words: what is cut off would not be counted, and
    what is left would be read without it.

    Args:
        files: to read, in order; parts of speech and relations are needed in all.
        tokenizer: of the model.
        max_length: most pieces of a sentence, special tokens counted.

    Raises:
        UserError: as `read_treebank` and `align`; or a file has no parts of speech or no relations; or no sentence is
            left.
    """
    aligned, encode = AlignedTreebank([], [], [], []), TextEncoder(tokenizer)
    for file in files:
        treebank = read_treebank(file)
        words = [word for sentence in treebank.sentences for word in sentence.words]
        for field, column in (("upos", "UPOS, column 4"), ("deprel", "DEPREL, column 8")):
            if words and all(getattr(word, field) is None for word in words):
                raise UserError(f"{file}: no word in it has a {column}; take an annotated treebank")
        aligned.unaligned.extend(treebank.unaligned)
        for sentence in treebank.sentences:
            pieces = align(sentence, encode)
            if len(pieces.input_ids) > max_length:
                aligned.too_long.append(sentence.id)
            else:
                aligned.sentences.append(sentence)
                aligned.pieces.append(pieces)
    if not aligned.sentences:
        left_out = f"{len(aligned.unaligned)} are not their words, {len(aligned.too_long)} over {max_length} pieces"
        raise UserError(f"{', '.join(map(str, files))}: no sentence is left of it ({left_out})")
    return aligned


def piece_rows(treebank: AlignedTreebank, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """A row for each piece of a word; special tokens have none. All numbers count from 0.

    Returns:
        columns `sentence` (its number), `sentence_id`, `document`, `word` (its number in the sentence), `form`, `piece`
        (its number in the word), `token` (the piece itself), `pieces` (of the word), `upos`, `deprel`, `kind` (of the
        token: PLAIN), `position` (in the model's input, where [CLS] is 0), `sentence_length` (in words).
    """
    rows = []
    for number, (sentence, pieces) in enumerate(zip(treebank.sentences, treebank.pieces, strict=True)):
        tokens = tokenizer.convert_ids_to_tokens(pieces.input_ids)
        total, seen = Counter(pieces.words), Counter()
        for position, (token, index) in enumerate(zip(tokens, pieces.words, strict=True)):
            if index is None:
                continue
            word = sentence.words[index]
            rows.append(
                {
                    "sentence": number,
                    "sentence_id": sentence.id,
                    "document": sentence.document,
                    "word": index,
                    "form": word.form,
                    "piece": seen[index],
                    "token": token,
                    "pieces": total[index],
                    "upos": word.upos,
                    "deprel": word.deprel,
                    "kind": TokenKind.PLAIN.name,
                    "position": position,
                    "sentence_length": len(sentence.words),
                }
            )
            seen[index] += 1
    return pd.DataFrame(rows)


def align(sentence: Sentence, encode: TextEncoder) -> Pieces:
    """Cut a sentence into pieces and find the word of each, by the characters that the piece covers.

    A piece over several words is that one's of which it covers most characters, the first of equals. A piece that
    covers whitespace only belongs to the word that follows. What is too long for a model is not cut off here.

    """
    owners = _owners(sentence)
    (encoding,) = encode([sentence.text])
    words = [
        None if special else _word_of(owners, start, end)
        for (start, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    ]
    return Pieces(encode.ids(encoding), words)


def _in_order(file: Path, block: Block) -> list[Token]:
    """A block's words and multiword tokens; a line out of order is the user's to mend."""
    rows: list[Token] = []
    words = covered = 0  # the last word so far, and the last of the last multiword token
    for number, row in block.rows:
        match row["id"]:
            case int(id_) if id_ == words + 1:
                words = id_
            case (int(first), "-", int(last)) if covered < first == words + 1 <= last:
                covered = last
            case (int(word), ".", int()) if word == words:
                continue
            case id_:
                shown = id_ if isinstance(id_, int) else "".join(map(str, id_))
                raise UserError(
                    f"{file}, line {number}: {shown} can't follow word {words}; mend the numbers, or part sentences"
                )
        rows.append(row)
    if covered > words:
        raise UserError(f"{file}, line {number}: a multiword token goes to word {covered}, the last is {words}")
    return rows


def _sentence(id_: str, document: str, text: str | None, rows: list[Token]) -> Sentence:
    """Find the words in the text; `_NotAligned` where they are not there."""
    tokens: list[tuple[Token, list[Token]]] = []  # as written: a form, and the words that it stands for
    last = 0
    for row in rows:
        if isinstance(row["id"], tuple):
            tokens.append((row, []))
            last = row["id"][2]
        elif row["id"] <= last:
            tokens[-1][1].append(row)
        else:
            tokens.append((row, [row]))
    if text is None:
        text = "".join(
            token["form"] + ("" if (token["misc"] or {}).get("SpaceAfter") == "No" else " ")
            for token, _ in tokens
            if token["form"] is not None
        ).rstrip()
    words = []
    position = 0
    for token, parts in tokens:
        position = SPACES.match(text, position).end()
        form = token["form"]
        if form is None or any(part["form"] is None for part in parts):
            position += len(form or "") or text.startswith("_", position)
            continue
        if not text.startswith(form, position):
            raise _NotAligned(f"{form!r} is not at character {position + 1} of its text")
        joined = "".join(part["form"] for part in parts)
        spells = len(joined) == len(form) and joined.lower() == form.lower()
        start, whole = position, (position, position + len(form))
        head = _head(parts)
        for part in parts:
            end = start + len(part["form"])
            span = (start, end) if spells else whole if part is head else None
            words.append(Word(part["form"], _given(part["upos"]), _given(part["deprel"]), span))
            start = end
        position += len(form)
    if not words:
        raise _NotAligned("the forms of its words are withheld")
    if rest := text[position:].strip():
        raise _NotAligned(f"its text goes on with {rest[:20]!r} after the last word")
    return Sentence(id_, document, text, words)


def _head(parts: list[Token]) -> Token:
    """The first word of a multiword token whose head is outside of it."""
    inside = {part["id"] for part in parts}
    return next((part for part in parts if part["head"] not in inside), parts[0])


def _given(value: str) -> str | None:
    return None if value == "_" else value


def _owners(sentence: Sentence) -> list[int]:
    """Of each character of the text: its word's index, or SPACE."""
    owners = [SPACE] * len(sentence.text)
    for index, word in enumerate(sentence.words):
        if word.span is not None:
            start, end = word.span
            owners[start:end] = [index] * (end - start)
    return owners


def _word_of(owners: list[int], start: int, end: int) -> int | None:
    covered = [owner for owner in owners[start:end] if owner != SPACE]
    if not covered:
        return next((owners[place] for place in range(end, len(owners)) if owners[place] != SPACE), None)
    return Counter(covered).most_common(1)[0][0]
