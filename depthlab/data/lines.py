"""Numbered lines of text files, and one line about what is wrong with one."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from depthlab.errors import UserError

LONGEST_LINE = 200_000_000
"""Characters; what has a longer line is no text, and would be read into memory as a whole."""


def read_lines(file: Path, setting: str = "data.corpus") -> Iterator[tuple[int, str]]:
    """Numbered lines of a plain or gzipped file, which the setting names, as `lines_of` gives them.

    Raises:
        UserError: It cannot be read, is not UTF-8, or has a line of more than `LONGEST_LINE` characters.
    """
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            for number, line in lines_of(stream, str(file)):
                yield number, line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{file}, after line {number}: broken gzip data ({error}); fetch the file again") from error
    except OSError as error:
        raise unreadable(file, error, setting) from error


def lines_of(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    r"""Numbered lines of UTF-8, which `\n`, `\r\n` and `\r` end and nothing else; each then ends with `\n`.

    Raises:
        UserError: It is not UTF-8, or a line is too long; the name says where.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=None)
    try:
        for number, line in enumerate(iter(lambda: text.readline(LONGEST_LINE + 1), ""), 1):
            if not is_unicode(line):
                raise UserError(f"{name}, line {number}: not valid UTF-8; convert it (iconv -t utf-8) or mend it")
            if len(line) > LONGEST_LINE:
                raise UserError(f"{name}, line {number}: of more than {LONGEST_LINE:,} characters; part it into lines")
            yield number, line
    finally:
        text.detach()  # or the stream would be closed with it


def is_unicode(text: str) -> bool:
    """Whether a text can be written at all: half a surrogate pair can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_rows(file: Path, setting: str) -> Iterator[tuple[int, str]]:
    """As `read_lines`, without the ends of lines, and without blank lines at the end of the file.

    Raises:
        UserError: As `read_lines`.
    """
    blank: list[tuple[int, str]] = []
    for number, line in read_lines(file, setting):
        blank.append((number, line.removesuffix("\n")))
        if line.strip():
            yield from blank
            blank.clear()


def by_column(place: str, columns: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """The fields of a row by their columns' names.

    Raises:
        UserError: There are more or fewer; it says the place.
    """
    if len(fields) != len(columns):
        raise UserError(
            f"{place}: {len(fields)} columns, not the {len(columns)} of {', '.join(columns)}; mend or remove the row"
        )
    return dict(zip(columns, fields, strict=True))


def read_objects(file: Path, setting: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered lines of JSON, an object each; blank lines are nothing.

    Raises:
        UserError: As `read_lines`; or a line holds something else.
    """
    for number, line in read_lines(file, setting):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:  # numbers and nesting beyond what Python reads, too
            raise UserError(f"{file}, line {number}: not JSON ({error}); a line must hold one JSON object") from None
        if not isinstance(content, dict):
            raise UserError(f"{file}, line {number}: {line[:40].strip()!r} is no JSON object; mend the line")
        if "\\u" in line and not is_unicode(json.dumps(content, ensure_ascii=False)):
            raise UserError(f"{file}, line {number}: half of a surrogate pair (\\ud800 to \\udfff); mend the line")
        yield number, content


def unreadable(path: Path, error: OSError, setting: str = "data.corpus") -> UserError:
    """For a user: that a file that a setting names can't be read."""
    return UserError(f"{path}: cannot be read ({error.strerror or error}); make it readable or correct {setting}")
