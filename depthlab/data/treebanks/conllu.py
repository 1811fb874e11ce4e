"""CoNLL-U (https://universaldependencies.org/format.html) line by line, so that errors name their line."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from conllu import Token, parse_token_and_metadata
from conllu.exceptions import ParseException

from depthlab.data.lines import read_lines
from depthlab.errors import UserError

COLUMNS = 10
UNREAD = {"deps": lambda fields, i: fields[i]}
"""What nothing here reads, and takes long to parse."""


class Block(NamedTuple):
    """The lines between blank ones: a sentence, or comments only."""

    line: int
    """Its first."""
    document: str
    """What the last `# newdoc id = ...` says; of documents without a name, a name made of the file's."""
    metadata: dict[str, str | None]
    """Its comments."""
    rows: list[tuple[int, Token]]
    """Words, multiword tokens and empty nodes, as they come, each with the number of its line."""


def read_blocks(file: Path, name: str) -> Iterator[Block]:
    """Read a file, plain or gzipped; documents that have no name are called by the one given.

    Raises:
        UserError: The file can't be read, or a line is malformed.
    """
    document, unnamed = name, 0
    numbered = ((number, line.strip()) for number, line in read_lines(file, "the setting `treebank`"))
    for is_block, group in groupby(numbered, key=lambda numbered_line: numbered_line[1] != ""):
        if not is_block:
            continue
        lines = list(group)
        metadata: dict[str, str | None] = {}
        rows: list[tuple[int, Token]] = []
        for number, line in lines:
            columns = line.count("\t") + 1
            if not line.startswith("#") and columns != COLUMNS:
                raise UserError(
                    f"{file}, line {number}: {columns} columns, not {COLUMNS} with tabs between them; mend the line"
                )
            try:
                parsed = parse_token_and_metadata(line, field_parsers=dict(UNREAD))
            except ParseException as error:
                raise UserError(f"{file}, line {number}: {str(error).rstrip('.')}; mend the line") from error
            metadata |= parsed.metadata
            rows.extend((number, row) for row in parsed)
        if "newdoc id" in metadata:
            document = metadata["newdoc id"]
        elif "newdoc" in metadata:
            unnamed += 1
            document = f"{name}-{unnamed}"
        yield Block(lines[0][0], document, metadata, rows)
