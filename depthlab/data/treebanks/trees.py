"""Sentences with gold trees out of treebanks: dependencies in CoNLL-U, constituents in the Penn Treebank's brackets."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from conllu import Token

from depthlab.data.folders import files_at
from depthlab.data.lines import read_lines
from depthlab.data.treebanks.conllu import read_blocks
from depthlab.errors import UserError

CONLLU = (".conllu", ".conllu.gz")
BRACKETS = (".ptb", ".ptb.gz", ".mrg", ".mrg.gz")
DEEPEST = 200
"""Brackets around another; no sentence has so many."""
ESCAPES = {
    **{"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"},
    **{"``": '"', "''": '"'},
}
"""What the Penn Treebank writes for brackets and quotes."""


class Constituent(NamedTuple):
    """A node of a bracketed tree.

    Attributes:
        label: Category or part of speech, with its function tags; empty at the top of some treebanks.
        children: Its parts; none of a word.
        word: The word itself, of a part of speech.
    """

    label: str
    children: tuple["Constituent", ...] = ()
    word: str | None = None

    @property
    def words(self) -> list[str]:
        """What it consists of; traces (-NONE-) are no words."""
        if self.label == "-NONE-":
            return []
        if self.word is not None:
            return [ESCAPES.get(self.word, self.word.replace("\\/", "/").replace("\\*", "*"))]
        return [word for child in self.children for word in child.words]


class ParsedSentence(NamedTuple):
    """A sentence and its tree.

    Attributes:
        id: Its `sent_id`, or the document's and the sentence's number in it.
        document: Whose sentence it is: what `# newdoc id = ...` says, or the name of the file.
        words: As the treebank parts them: "do", "n't".
        tree: Of CoNLL-U, the syntactic words as `conllu` has them, neither multiword tokens nor empty nodes; of
            brackets, the outermost one.
    """

    id: str
    document: str
    words: list[str]
    tree: list[Token] | Constituent


def treebank_files(paths: Iterable[str]) -> list[Path]:
    """The treebanks' files, in CoNLL-U or brackets, in order: each file itself, and all that a folder holds.

    Raises:
        UserError: There is no such file or folder, no treebank in it, or it is of another kind.
    """
    files = [file for path in paths for file in files_at(Path(path).expanduser(), CONLLU + BRACKETS, "--treebank")]
    return list(dict.fromkeys(files))


def read_conllu(file: Path, left_out: list[str]) -> Iterator[ParsedSentence]:
    """The sentences of a file in CoNLL-U, plain or gzipped.

    Args:
        file: To read.
        left_out: Takes the name of each sentence that is no tree of its words: it has not one root, or a word without a
            head or a form.

    Raises:
        UserError: The file cannot be read; a line is malformed.
    """
    seen: Counter[str] = Counter()
    for block in read_blocks(file, _stem(file)):
        tree = [row for _, row in block.rows if isinstance(row["id"], int)]
        if not tree:
            continue
        seen[block.document] += 1
        numbers, heads = [word["id"] for word in tree], [word["head"] for word in tree]
        is_whole = None not in heads and None not in (word["form"] for word in tree)
        if not is_whole or heads.count(0) != 1 or numbers != [*range(1, len(tree) + 1)] or max(heads) > len(tree):
            left_out.append(f"{file}, line {block.line}")
            continue
        id_ = block.metadata.get("sent_id") or f"{block.document}-{seen[block.document]}"
        yield ParsedSentence(id_, block.document, [word["form"] for word in tree], tree)


def read_brackets(file: Path) -> Iterator[ParsedSentence]:
    """The sentences of a file in the Penn Treebank's brackets, plain or gzipped, over any number of lines each.

    Between sentences, lines that begin with # are comments; `# newdoc id = ...` begins a document.

    Raises:
        UserError: The file cannot be read, or brackets do not match, or hold neither a word nor brackets.
    """
    document, index, begun = _stem(file), 0, 0
    open_: list[list[str | Constituent]] = []  # what each open bracket holds so far
    for number, line in read_lines(file, "--treebank"):
        if not open_ and line.startswith("#"):
            if match := re.match(r"#\s*newdoc id\s*=\s*(.*\S)", line):
                document, index = match[1], 0
            continue
        for token in (match.group() for match in re.finditer(r"[()]|[^\s()]+", line)):
            if len(open_) > DEEPEST:
                raise UserError(f"{file}, line {number}: brackets in more than {DEEPEST} others; mend the line")
            if token == "(":
                begun = begun if open_ else number
                open_.append([])
            elif not open_:
                raise UserError(f"{file}, line {number}: {token!r} outside of brackets; mend the line")
            elif token != ")":
                open_[-1].append(token)
            else:
                node = _constituent(open_.pop(), f"{file}, line {number}")
                if open_:
                    open_[-1].append(node)
                else:
                    index += 1
                    yield ParsedSentence(f"{document}-{index}", document, node.words, node)
    if open_:
        raise UserError(f"{file}, line {begun}: the bracket that begins here is never closed; mend the file")


def _constituent(parts: list[str | Constituent], place: str) -> Constituent:
    label, parts = (parts[0], parts[1:]) if parts and isinstance(parts[0], str) else ("", parts)
    if len(parts) == 1 and isinstance(parts[0], str):
        return Constituent(label, word=parts[0])
    if not parts or not all(isinstance(part, Constituent) for part in parts):
        raise UserError(f"{place}: the bracket that ends here holds neither a word nor brackets; mend the line")
    return Constituent(label, tuple(parts))


def _stem(file: Path) -> str:
    """The name of a file without what it ends in; the name of a document that has no other."""
    return re.sub(r"\.[a-z]+(\.gz)?$", "", file.name)
