"""CoNLL-U (https://universaldependencies.org/format.html) line by line, so that errors name their line."""

import re
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from conllu import Token

from depthlab.data.lines import read_lines
from depthlab.errors import UserError

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WRITTEN = ("PUNCT", "SYM")
"""Parts of speech of a word that may really be an underscore; of any other it stands for a form that is withheld."""
ID = re.compile(r"(\d{1,9})(?:([-.])(\d{1,9}))?", re.ASCII)


class Block(NamedTuple):
    """The lines between blank ones: a sentence, or comments only."""

    line: int
    """Its first."""
    document: str
    """What the last `# newdoc id = ...` says; of documents without a name, a name made of the file's."""
    metadata: dict[str, str]
    """Its comments."""
    rows: list[tuple[int, Token]]
    """Words, multiword tokens and empty nodes, as they come, each with the number of its line; those whose form is
    withheld have None."""


def read_blocks(file: Path, name: str) -> Iterator[Block]:
    """Read a file, plain or gzipped; documents that have no name are called by the one given.

    Raises:
        UserError: The file can't be read, or a line is malformed.
    """
    document, unnamed = name, 0
    numbered = ((number, line.removesuffix("\n")) for number, line in read_lines(file, "the setting `treebank`"))
    for is_block, group in groupby(numbered, key=lambda numbered_line: numbered_line[1].strip() != ""):
        if not is_block:
            continue
        lines = list(group)
        metadata: dict[str, str] = {}
        rows: list[tuple[int, Token]] = []
        for number, line in lines:
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                metadata[key.strip()] = value.strip()
            else:
                rows.append((number, _row(line, f"{file}, line {number}")))
        withheld = {row["form"] for _, row in rows} == {"_"}
        for _, row in rows:
            if row["form"] == "_" and (withheld or row["upos"] not in WRITTEN):
                row["form"] = None
        if "newdoc id" in metadata:
            document = metadata["newdoc id"]
        elif "newdoc" in metadata:
            unnamed += 1
            document = f"{name}-{unnamed}"
        yield Block(lines[0][0], document, metadata, rows)


def _row(line: str, place: str) -> Token:
    """A line's columns, parted by tabs alone, in the forms that `conllu` gives them; DEPS, which nobody reads, as is.

    Not by `conllu` itself, for which two spaces part columns, too.
    """
    fields = line.split("\t")
    if len(fields) != len(COLUMNS):
        raise UserError(f"{place}: {len(fields)} columns, not {len(COLUMNS)} with tabs between them; mend the line")
    row = Token(zip(COLUMNS, fields, strict=True))
    read: dict[str, Callable[[str], Any]] = {"id": _id, "feats": _pairs, "head": _head, "misc": _pairs}
    for column, parse in read.items():
        try:
            row[column] = parse(row[column].strip())
        except ValueError:
            shown = row[column][:40]
            raise UserError(f"{place}: {shown!r} is not a valid {column.upper()}; mend the line") from None
    return row


def _id(text: str) -> int | tuple[int, str, int]:
    if (match := ID.fullmatch(text)) is None:
        raise ValueError
    return int(match[1]) if match[2] is None else (int(match[1]), match[2], int(match[3]))


def _head(text: str) -> int | None:
    """None of a word that has none."""
    head = None if text == "_" else _id(text)
    if isinstance(head, tuple):
        raise ValueError
    return head


def _pairs(text: str) -> dict[str, str] | None:
    """Names and values; None where there are none."""
    return (
        None if text == "_" else {name: value for name, _, value in (pair.partition("=") for pair in text.split("|"))}
    )
